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
NUMBER = re.compile("(0|[1-9][0-9]*) (0|[1-9][0-9]*)")
TIME = re.compile(r"(\d+):(\d+):(\d+)[,.](\d+)")


def root(source: Path) -> Path | None:
    return source if any(_tables(source).values()) else None


def _tables(source: Path) -> dict[str, Path | None]:
    found = {part: sorted(f for f in source.rglob(f"{part}_sent_emo.csv") if f.is_file()) for part in PARTS}
    return {part: next(iter(files), None) for part, files in found.items()}


def read(release: Path) -> Found:
    """Every line of the tables that are there; CorpusError names a line that cannot be understood."""
    clips = {part: _clips(release, part) for part in PARTS}
    recordings, told, used = [], [], set()
    for part, file in _tables(release).items():
        rows, old = _rows(file) if file else ([], 0)
        for number, row in enumerate(rows, 2):
            recording = _recording(f"{file} line {number}", part, row, clips[part])
            recordings.append(recording)
            used.add(recording.sound)
        told.append(f"{part}: {len(rows)} utterances (published: {PUBLISHED[part]}).")
        told += [f"{old} lines of {file.name} are not UTF-8, and were read as cp1252."] if file and old else []
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


def _rows(file: Path) -> tuple[list[dict[str, str]], int]:
    """The rows, and how many lines are in the encoding of older copies."""
    old = 0
    try:
        text = read_text(file, "a table of MELD")
    except CorpusError:
        lines = file.read_bytes().removeprefix(b"\xef\xbb\xbf").split(b"\n")
        old = sum(not _is_utf8(line) for line in lines)
        text = "\n".join(line.decode("utf-8" if _is_utf8(line) else "cp1252", "replace") for line in lines)
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    if not rows or not set(COLUMNS) <= rows[0].keys():
        raise CorpusError(
            file, f"a table with the columns {', '.join(COLUMNS)}", f"{list(rows[0]) if rows else 'nothing'}"
        )
    return rows, old


def _is_utf8(line: bytes) -> bool:
    try:
        line.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _recording(where: str, part: str, row: dict[str, str], clips: dict[str, Path]) -> Recording:
    emotion, dialogue, utterance = row["Emotion"], row["Dialogue_ID"], row["Utterance_ID"]
    if emotion not in CLASSES or not NUMBER.fullmatch(f"{dialogue} {utterance}"):
        raise CorpusError(where, f"an emotion of {', '.join(CLASSES)}, and two numbers", f"{list(row.values())}"[:200])
    name = f"dia{dialogue}_utt{utterance}"
    facts = {
        **{"label": emotion, "text": row["Utterance"].replace("\x92", "’"), "speaker": row["Speaker"]},
        **{"dialogue": f"{part}/dia{dialogue}", "start": _seconds(where, row["StartTime"])},
        **{"end": _seconds(where, row["EndTime"]), "part": part},
    }
    clip = clips.get(name)
    return Recording(f"{part}/{name}", facts, clip, video=clip)


def _seconds(where: str, time: str | None) -> str:
    """hh:mm:ss,ms in seconds."""
    if not (found := TIME.fullmatch((time or "").strip())):
        raise CorpusError(where, "a time hh:mm:ss,ms", repr(time or ""))
    hours, minutes, seconds, fraction = found.groups()
    return f"{int(hours) * 3600 + int(minutes) * 60 + int(seconds)}.{fraction:0>3}"
