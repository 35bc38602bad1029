"""IEMOCAP's own release: IEMOCAP_full_release/Session1 .. Session5, as it is handed out.

    Session<s>/sentences/wav/<dialogue>/<utterance>.wav      one utterance, the sound of its speaker
    Session<s>/dialog/EmoEvaluation/<dialogue>.txt           times and labels, in the lines that start with "["
    Session<s>/dialog/transcriptions/<dialogue>.txt          texts, behind the first "]:"
    Session<s>/dialog/avi/DivX/<dialogue>.avi                both actors in one picture

The letter in the name of a dialogue is the actor with the markers, who is in the left half of the picture; the letter
in the last field of the name of an utterance is its speaker.
"""

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from mmer_core.errors import CorpusError
from mmer_core.extract.found import Found, Recording

CLASSES = ["ang", "exc", "hap", "sad", "fru", "sur", "neu"]  # of the study, in the order of its published code
FOUR = ("neu", "hap", "exc", "ang", "sad")
PUBLISHED = {"ang": 1103, "exc": 1041, "hap": 595, "sad": 1084, "fru": 1849, "sur": 107, "neu": 1708}  # AMH's README
ALL, SEVEN, OF_FOUR = 10_039, 7487, 5531
EVALUATED = re.compile(r"\[(\d+(?:\.\d+)?) - (\d+(?:\.\d+)?)\]\t(\S+)\t(\S+)\t\[")
SAID = re.compile(r"(\S+) \[[^\]]*\]:(.*)")
UTTERANCE = re.compile(r"Ses\d+([FM])_(?:impro|script)\w*_([FM])\d+")
ENCODINGS = ("utf-8", "cp1252", "latin-1")


def root(source: Path) -> Path | None:
    """The folder that holds Session1 .., which may be one below."""
    folders = [source, *sorted(p for p in source.iterdir() if p.is_dir() and not p.name.startswith("."))]
    return next((p for p in folders if _sessions(p)), None)


def _sessions(folder: Path) -> list[Path]:
    return sorted(
        p for p in folder.glob("Session[0-9]*") if (p / "sentences" / "wav").is_dir() and p.name[7:].isdigit()
    )


def read(release: Path) -> Found:
    """The utterances of the seven classes of the study; the others are counted, and so is all that is odd.

    CorpusError for a label file that cannot be understood, or an utterance that is there twice.
    """
    tally: Counter[str] = Counter()
    every: dict[str, Recording] = {}
    for session in _sessions(release):
        texts = dict(_texts(session, tally))
        wavs = {f.stem: f for f in sorted((session / "sentences" / "wav").glob("*/*.wav")) if f.name[0] != "."}
        for recording in _evaluated(session, texts, wavs, tally):
            if recording.id in every:
                raise CorpusError(session / "dialog" / "EmoEvaluation", "each utterance once", f"{recording.id} again")
            every[recording.id] = recording
        tally["lines of transcriptions have neither label nor sound (such as _FXX0)"] += len(
            texts.keys() - every.keys() - wavs.keys()
        )
        tally["recordings have no label, and are left out"] += len(wavs.keys() - every.keys())
    if not every:
        raise CorpusError(release, "utterances in Session*/dialog/EmoEvaluation/*.txt", "none")
    chosen = [r for r in every.values() if r.facts["label"] in CLASSES]
    told = [f"{n} {what}." for what, n in tally.items() if n]
    return Found("IEMOCAP", chosen, [*told, *_counts(every)], CLASSES)


def _evaluated(session: Path, texts: dict[str, str], wavs: dict[str, Path], tally: Counter) -> Iterator[Recording]:
    """The utterances that have a label."""
    for file in _files(session / "dialog" / "EmoEvaluation"):
        avi = session / "dialog" / "avi" / "DivX" / f"{file.stem}.avi"
        tally["dialogues have no film"] += not avi.is_file()
        for number, line in enumerate(_lines(file, tally), 1):
            if not line.startswith("["):
                continue
            found = EVALUATED.match(line)
            name = found and UTTERANCE.fullmatch(found[3])
            if not found or not name or found[3].rpartition("_")[0] != file.stem:
                raise CorpusError(
                    f"{file} line {number}", "[start - end] utterance of this dialogue, emotion", repr(line)[:200]
                )
            start, end, utterance, emotion = found.groups()
            marked, speaker = name.groups()
            facts = {
                **{"label": emotion, "text": texts.get(utterance, ""), "speaker": f"{utterance[:5]}{speaker}"},
                **{"dialogue": file.stem, "session": session.name, "start": start, "end": end},
            }
            tally["utterances have no text"] += not facts["text"]
            seen = {"video": avi, "video_span": (float(start), float(end))} if avi.is_file() else {}
            half = "left" if speaker == marked else "right"
            yield Recording(utterance, facts, wavs.get(utterance), half=half, **seen)  # type: ignore[arg-type]


def _texts(session: Path, tally: Counter) -> Iterator[tuple[str, str]]:
    """What was said, by utterance."""
    known = set()
    for file in _files(session / "dialog" / "transcriptions"):
        for line in _lines(file, tally):
            if found := SAID.match(line):
                tally["lines of transcriptions name an utterance again"] += found[1] in known
                known.add(found[1])
                yield found[1], found[2].strip()
            elif line.strip():
                tally["lines of transcriptions have another form, and are not read"] += 1


def _files(folder: Path) -> list[Path]:
    """The text files of a folder itself: those below are of single annotators; hidden ones are macOS'."""
    return sorted(f for f in folder.glob("*.txt") if f.name[0] != "." and f.is_file())


def _lines(file: Path, tally: Counter) -> list[str]:
    data = file.read_bytes().removeprefix(b"\xef\xbb\xbf")
    for encoding in ENCODINGS:
        try:
            text = data.decode(encoding)
        except UnicodeDecodeError:
            continue
        tally[f"files are not UTF-8, and were read as {encoding}"] += encoding != ENCODINGS[0]
        return text.splitlines()
    raise AssertionError("latin-1 reads everything")


def _counts(every: dict[str, Recording]) -> list[str]:
    """What there is, beside what is published."""
    n = Counter(r.facts["label"] for r in every.values())
    others = {label: n[label] for label in sorted(n) if label not in CLASSES}
    left = ", ".join(f"{count} {label}" for label, count in others.items())
    told = [f"{sum(others.values())} utterances of other labels are left out: {left}."] if others else []
    seven, four = (sum(n[label] for label in some) for some in (CLASSES, FOUR))
    told.append(
        f"{len(every)} utterances with a label (published: {ALL}), {seven} of the seven classes (published: {SEVEN}), "
        f"{four} of four, happy and excited as one (published: {OF_FOUR})."
    )
    differ = [f"{label} {n[label]} ({published})" for label, published in PUBLISHED.items() if n[label] != published]
    return [*told, f"Other than published: {', '.join(differ)}." if differ else "All classes are as published."]
