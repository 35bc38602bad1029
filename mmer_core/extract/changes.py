"""What each feature was made of, so that features of a recording that has changed are made again.

OUT/recordings.csv    id, and for each set of features a digest of the text, sound or pictures that it was made of
"""

import csv
import hashlib
import io
from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from loky import cpu_count
from tqdm import tqdm

from mmer_core.extract.found import Recording
from mmer_core.texts import read_table

RECORDINGS = "recordings.csv"
AT_ONCE = 1 << 20  # bytes
Made = Mapping[str, Mapping[str, str]]  # of what, by set and id


def made_of(recordings: Collection[Recording], sets: Mapping[str, str], progress: bool) -> dict[str, dict[str, str]]:
    """For each set (by its modality) and recording a digest of the text, or of the file and what of it is used."""
    files = list(dict.fromkeys(f for r in recordings for m in sets.values() if (f := _medium(r, m)[0])))
    with ThreadPoolExecutor(cpu_count()) as pool:
        read = pool.map(_content, files)
        shown = tqdm(read, "reading", len(files), unit="file", ncols=100, delay=3, disable=not progress)
        content = dict(zip(files, shown, strict=True))
    found: dict[str, dict[str, str]] = {}
    for name, modality in sets.items():
        parts = {r.id: _medium(r, modality) for r in recordings}
        found[name] = {id: _digest(content.get(f, b""), repr(more).encode()) for id, (f, *more) in parts.items()}
    return found


def _medium(r: Recording, modality: str) -> tuple:
    """The file that a modality is taken from, if any, and what else decides."""
    every = {"audio": (r.sound, r.sound_span), "video": (r.video, r.video_span, r.half)}
    return every.get(modality, (None, r.facts.get("text", "")))


def _content(file: Path) -> bytes:
    found = hashlib.blake2b(digest_size=16)
    try:
        with open(file, "rb") as f:
            while block := f.read(AT_ONCE):
                found.update(block)
    except OSError:  # it is told where it is to be heard or seen
        return b""
    return found.digest()


def _digest(*parts: bytes) -> str:
    return hashlib.blake2b(b"".join(parts), digest_size=8).hexdigest()


def whole(made: Mapping[str, str]) -> str:
    """A digest for a set as a whole."""
    return _digest(*(f"{id} {x} ".encode() for id, x in sorted(made.items())))


def outdated(out: Path, made: Made) -> list[tuple[str, str]]:
    """Sets and ids whose recording is not what was noted the last time."""
    known = _known(out)
    return [(name, id) for name, now in made.items() for id, x in now.items() if known.get(id, {}).get(name, x) != x]


def noted(out: Path, made: Made) -> str:
    """The content of recordings.csv with what is known now."""
    known = _known(out)
    for name, now in made.items():
        for id, x in now.items():
            known.setdefault(id, {})[name] = x
    names = sorted({name for row in known.values() for name in row})
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["id", *names])
    writer.writerows([id, *(row.get(name, "") for name in names)] for id, row in sorted(known.items()))
    return text.getvalue()


def _known(out: Path) -> dict[str, dict[str, str]]:
    if not (out / RECORDINGS).is_file():
        return {}
    rows = read_table(out / RECORDINGS, ["id"])
    return {row["id"]: {k: x for k, x in row.items() if k not in ("id", "line") and x} for row in rows}
