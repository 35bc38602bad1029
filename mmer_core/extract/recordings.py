"""Where utterances are heard and seen: a folder with its table, IEMOCAP's release, or MELD's.

A folder of recordings has `utterances.csv` in it, or a table is named: id, label, and if you have them text, speaker,
dialogue, session, start, end, fold, part. A recording is found by its id anywhere below the folder, or by the column
`file`; that one is cut to start .. end (seconds) where these are given.
"""

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

from mmer_core.description import names_a_file
from mmer_core.errors import CorpusError
from mmer_core.extract import iemocap, meld
from mmer_core.extract.found import Found, Recording, below
from mmer_core.formats.plain import placed_of, span
from mmer_core.texts import read_table

SOUNDS = (".wav", ".flac", ".ogg", ".mp3", ".m4a", ".aiff", ".aif")
VIDEOS = (".mp4", ".avi", ".mkv", ".mov", ".webm", ".flv", ".mpg")
KEPT = ("label", "text", "speaker", "dialogue", "session", "start", "end", "fold", "part")


def find(source: Path, table: Path | None = None) -> Found:
    """The recordings of a source, which is told by its content; CorpusError if it is none of those above."""
    if not source.is_dir():
        raise CorpusError(source, "a folder of recordings, IEMOCAP's release or MELD's", "no folder")
    if table is None and not (source / "utterances.csv").is_file():
        for release in (iemocap, meld):
            if root := release.root(source):
                return release.read(root)
    return _in_folder(source, table or source / "utterances.csv")


def _in_folder(folder: Path, table: Path) -> Found:
    rows, files = read_table(table, ["id", "label"]), below(folder, SOUNDS + VIDEOS)
    by_name: dict[str, list[Path]] = defaultdict(list)
    for name, some in files.items():
        by_name[name.rpartition("/")[2]] += some
    recordings, seen, whole = [], set(), 0
    for row in rows:
        where, name = f"{table} line {row['line']}", row["id"]
        if name in seen or not names_a_file(name):
            raise CorpusError(where, "an id of its own that names a file in the folder", repr(name))
        seen.add(name)
        named = _named(where, folder, row["file"]) if row.get("file") else files.get(name, [])
        alike = [] if row.get("file") else by_name.get(name, [])
        sound, video = (_of(where, kind, named) or _of(where, kind, alike) for kind in (SOUNDS, VIDEOS))
        span = _span(where, row)
        if span and not row.get("file"):  # a file of its own is the utterance: its times are those in a dialogue
            whole, span = whole + 1, None
        facts = {k: row[k] for k in KEPT if k in row}
        recordings.append(Recording(name, facts, sound or video, span, video, span))
    if not recordings:
        raise CorpusError(table, "at least one utterance", "none")
    placed_of(table, rows)
    used = {file for r in recordings for file in (r.sound, r.video)}
    spare = sum(file not in used for some in files.values() for file in some)
    told = [f"{spare} recordings belong to no row of {table.name}."] if spare else []
    told += [f"{whole} recordings were found by their id and taken whole; start and end cut a `file`."] if whole else []
    return Found(folder.name, recordings, told)


def _named(where: str, folder: Path, name: str) -> list[Path]:
    file = folder / name
    if not names_a_file(name) or not file.resolve().is_relative_to(folder.resolve()):
        raise CorpusError(where, "file: a path in the folder of the recordings", repr(name))
    if file.suffix.lower() not in SOUNDS + VIDEOS:
        raise CorpusError(where, f"file: a recording ({', '.join(SOUNDS + VIDEOS)})", repr(name))
    return [file] if file.is_file() else []


def _of(where: str, endings: tuple[str, ...], files: list[Path]) -> Path | None:
    some = [file for file in files if file.suffix.lower() in endings]
    if len(some) > 1:
        raise CorpusError(where, "one recording of this id", ", ".join(map(str, some))[:300])
    return some[0] if some else None


def _span(where: str, row: Mapping[str, str]) -> tuple[float, float] | None:
    given = [row.get(name, "") for name in ("start", "end")]
    if any(given) and not all(given):
        raise CorpusError(where, "start and end: seconds, both or none", f"{given}")
    return span(where, row) if any(given) else None
