"""MELD as it is handed out: {train,dev,test}_sent_emo.csv, and a clip for each line, dia<D>_utt<U>.mp4.

Dialogues and utterances are numbered anew in each part, so ids begin with it: train/dia0_utt0.
"""

import csv
import io
import re
from pathlib import Path

from mmer_core.errors import CorpusError
from mmer_core.extract.found import Found, Recording, below
from mmer_core.texts import read_text

PARTS = ("train", "dev", "test")
CLASSES = ["neutral", "surprise", "fear", "sadness", "joy", "disgust", "anger"]  # in the order of its codes
PUBLISHED = {"train": 9989, "dev": 1109, "test": 2610}
BROKEN = {"train/dia125_utt3": "its clip is known to be broken", "dev/dia110_utt7": "its clip is known to be missing"}
COLUMNS = ("Utterance", "Speaker", "Emotion", "Dialogue_ID", "Utterance_ID", "StartTime", "EndTime")
TIME = re.compile(r"(\d+):(\d+):(\d+)[,.](\d+)")


def root(source: Path) -> Path | None:
    return source if any(_tables(source).values()) else None


def _tables(source: Path) -> dict[str, Path | None]:
    return {part: next(iter(sorted(source.rglob(f"{part}_sent_emo.csv"))), None) for part in PARTS}


def read(release: Path) -> Found:
    """Every line of the tables that are there; CorpusError names a line that cannot be understood."""
    clips = {part: _clips(release, part) for part in PARTS}
    recordings, told, used = [], [], set()
    for part, file in _tables(release).items():
        rows = _rows(file) if file else []
        for number, row in enumerate(rows, 2):
            recording = _recording(f"{file} line {number}", part, row, clips[part])
            recordings.append(recording)
            used.add(recording.sound)
        told.append(f"{part}: {len(rows)} utterances (published: {PUBLISHED[part]}).")
    if len({r.id for r in recordings}) < len(recordings):
        raise CorpusError(release, "each dialogue and utterance once in a part", "one of them again")
    told += [f"{r.id} has no clip: {BROKEN[r.id]}." for r in recordings if r.id in BROKEN and r.sound is None]
    spare = sum(clip not in used for some in clips.values() for clip in some.values())
    return Found("MELD", recordings, [*told, f"{spare} clips belong to no line."] if spare else told, CLASSES)


def _clips(release: Path, part: str) -> dict[str, Path]:
    """The clips of a part by their name, in a folder that is named after it."""
    found = {}
    for name, files in below(release, (".mp4",)).items():
        place, _, clip = name.rpartition("/")
        if any(re.search(rf"(^|_){part}(_|$)", folder) for folder in place.split("/")):
            found[clip] = files[0]
    return found


def _rows(file: Path) -> list[dict[str, str]]:
    try:
        text = read_text(file, "a table of MELD")
    except CorpusError:
        text = file.read_bytes().decode("cp1252", errors="replace")  # older copies
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    if not rows or not set(COLUMNS) <= rows[0].keys():
        raise CorpusError(
            file, f"a table with the columns {', '.join(COLUMNS)}", f"{list(rows[0]) if rows else 'nothing'}"
        )
    return rows


def _recording(where: str, part: str, row: dict[str, str], clips: dict[str, Path]) -> Recording:
    emotion, dialogue, utterance = row["Emotion"], row["Dialogue_ID"], row["Utterance_ID"]
    if emotion not in CLASSES or not (dialogue or "").isdigit() or not (utterance or "").isdigit():
        raise CorpusError(where, f"an emotion of {', '.join(CLASSES)}, and two numbers", f"{list(row.values())}"[:200])
    name = f"dia{dialogue}_utt{utterance}"
    facts = {
        **{"label": emotion, "text": row["Utterance"].replace("\x92", "’"), "speaker": row["Speaker"]},
        **{"dialogue": f"{part}/dia{dialogue}", "start": _seconds(where, row["StartTime"])},
        **{"end": _seconds(where, row["EndTime"]), "part": part},
    }
    clip = clips.get(name)
    return Recording(f"{part}/{name}", facts, clip, video=clip)


def _seconds(where: str, time: str) -> str:
    """hh:mm:ss,ms in seconds."""
    if not (found := TIME.fullmatch(time.strip())):
        raise CorpusError(where, "a time hh:mm:ss,ms", repr(time))
    hours, minutes, seconds, fraction = found.groups()
    return f"{int(hours) * 3600 + int(minutes) * 60 + int(seconds)}.{fraction:0>3}"
