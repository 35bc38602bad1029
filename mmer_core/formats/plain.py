"""A plain folder: utterances.csv beside the features of each modality, one file an utterance, or one archive for all.

    utterances.csv      id, label; optional text, speaker, dialogue, session, start, end, fold, part
    text/ID.npy         [T, D], or [D] for one step; video/ID.npy, audio/ID.npy; or text.npz, video.npz, audio.npz
    corpus.toml         optional: classes, and the tables rates (frames a second) and lengths (padded, in time steps);
                        [features.NAME]: modality and rate of features/NAME, and what made them (`extract` writes it)

As MERBench writes them, features may lie in features/<model>-FRA/ID.npy, and label.npz may stand for utterances.csv:
then each modality is named, as in `open_corpus(folder, audio="chinese-hubert-large-FRA")`.
"""

import hashlib
import io
import json
import math
import os
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mmer_core.arrays import Archive, load_array
from mmer_core.corpus import MODALITIES, PARTS
from mmer_core.description import file_name, names_a_file
from mmer_core.errors import CorpusError
from mmer_core.formats import pickles
from mmer_core.labels import class_of_rows
from mmer_core.store import Source, Utterance
from mmer_core.texts import read_table, read_toml

TABLE, SETTINGS, LABELS = "utterances.csv", "corpus.toml", "label.npz"
LARGEST = 2**28  # bytes of one utterance in one modality: hours of frames
COLUMNS = ("text", "speaker", "dialogue", "session", "start", "end")
ONE_STEP = "Every utterance is one vector in each modality: attention has nothing to choose from."
MERBENCH = {"whole_corpus": "", "train_corpus": "train", "val_corpus": "dev", "test_corpus": "test"}


class Folder(Source):
    """The table and the heads of all feature files, checked before any frame is read.

    Args:
        chosen: by modality the folder or archive of its features, where it is not named after the modality.
        skip: leave out utterances without a label or a feature file (told), instead of refusing them.
    """

    named = True

    def __init__(self, folder: Path, chosen: Mapping[str, str], skip: bool = False):
        self.folder, self.skip = folder, skip
        self.told: list[str] = []
        settings = settings_of(folder)
        self.sets = sets = settings.get("features", {})
        self.table = folder / (LABELS if not (folder / TABLE).is_file() and (folder / LABELS).is_file() else TABLE)
        self.rows = _rows(self.table)
        self.known = {row["id"] for row in self.rows}
        if unread := self.rows[0].keys() - {"id", "label", "fold", "part", "line", *COLUMNS}:
            self.told.append(f"Columns of {self.table.name} that are not read: {', '.join(sorted(unread))}.")
        self.holders = {m: _Holder(place, m) for m, place in _places(folder, chosen, sets).items()}
        self._drop("without a label", lambda row: bool(row["label"]), "a label")
        for holder in self.holders.values():
            self._drop(f"without {holder.modality}", lambda row, h=holder: row["id"] in h, f"a file in {holder.place}")
        self.heads = {m: self._heads(holder) for m, holder in self.holders.items()}
        stated = settings.get("lengths", {})
        self.steps = {m: stated.get(m) or max(1, *(shape[0] for shape in heads)) for m, heads in self.heads.items()}
        for m, steps in self.steps.items():
            if steps * (room := 4 * self.heads[m][0][1]) > LARGEST:
                raise CorpusError(folder / SETTINGS, f"lengths of {m} up to {LARGEST // room}", f"{steps}")
        classes, self.label = class_of_rows(self.table, self.rows, settings.get("classes"))
        self.folds, self.placed = placed_of(self.table, self.rows)
        own = {m: r for m, h in self.holders.items() if (r := sets.get(h.place.name, {}).get("rate"))}
        self.facts = {
            **{"name": settings.get("name", folder.name), "source": str(folder), "synthetic": False, "words": None},
            **{"classes": classes, "rates": own | settings.get("rates", {}) or None},
        }

    @staticmethod
    def watched(folder: Path) -> list[Path]:
        """The small files that a store depends on, and archives."""
        return [folder / name for name in (TABLE, SETTINGS, LABELS)] + list(folder.glob("*.npz"))

    @staticmethod
    def said(folder: Path, chosen: Mapping[str, str]) -> str:
        """A fingerprint of what corpus.toml says of these features: that others came does not change it."""
        settings = settings_of(folder)
        names = {place.name for place in _places(folder, chosen, settings.get("features", {})).values()}
        settings["features"] = {name: x for name, x in settings.get("features", {}).items() if name in names}
        return hashlib.blake2b(json.dumps(settings, sort_keys=True).encode(), digest_size=16).hexdigest()

    def utterances(self) -> Iterator[Utterance]:
        seen = set()
        for i, row in enumerate(self.rows):
            if row["id"] in seen:
                continue  # again, in another fold
            seen.add(row["id"])
            arrays, lengths = {}, {}
            for m, holder in self.holders.items():
                x = holder.read(row["id"])
                lengths[m] = len(x)
                arrays[m] = np.zeros((self.steps[m], x.shape[1]), np.float32)
                with np.errstate(over="ignore"):
                    arrays[m][: len(x)] = x[: self.steps[m]]
            times = dict(zip(("start", "end"), span("", row), strict=True))
            facts = {f"{name}s": times.get(name, row[name]) for name in COLUMNS if name in row}
            files = {m: holder.where(row["id"]) for m, holder in self.holders.items()}
            yield Utterance(row["id"], self.placed[row["id"]], int(self.label[i]), lengths, arrays, files, 0, facts)

    def findings(self, counts: list[str], overlaps: list[str]) -> list[str]:
        shapes = {shape[0] for heads in self.heads.values() for shape in heads}
        sources = [f"{m}: {self._made(h.place.name)}." for m, h in self.holders.items() if h.place.stem != m]
        known = {f"{name}.npy" for name in self.known}
        for m, holder in self.holders.items():
            if odd := sorted(holder.names() - known):
                sources.append(f"{len(odd)} files of {m} belong to no row of {self.table.name}, such as {odd[0]}.")
        return [*counts, *self.told, *sources, *([ONE_STEP] if shapes == {1} else []), *overlaps]

    def _made(self, name: str) -> str:
        """A set of features, and what made it."""
        about = [f"{k} {x}" for k, x in self.sets.get(name, {}).items() if k not in ("modality", "of")]
        return f"{name} ({', '.join(about)})" if about else name

    def _drop(self, what: str, good: Callable, expected: str) -> None:
        """Leave out rows that are not good, if that was asked for; else refuse the first one."""
        bad = [row for row in self.rows if not good(row)]
        if bad and not self.skip:
            where, found = f"{self.table} line {bad[0]['line']}", f"none ({len(bad)} such; skip=True leaves them out)"
            raise CorpusError(where, f"{expected} for {bad[0]['id']!r}", found)
        self.rows = [row for row in self.rows if good(row)]
        if bad:
            self.told.append(f"{len(bad)} utterances {what} are left out, the first one {bad[0]['id']}.")
        if not self.rows:
            raise CorpusError(self.table, "utterances that can be used", "none")

    def _heads(self, holder: "_Holder") -> list[tuple[int, int]]:
        shapes = [holder.shape(row["id"]) for row in self.rows]
        for row, shape in zip(self.rows, shapes, strict=True):
            if shape[1] != shapes[0][1]:
                raise CorpusError(holder.where(row["id"]), f"{shapes[0][1]} features, as in the first", f"{shape[1]}")
        return shapes


class _Holder:
    """Where the features of one modality lie: a folder of .npy files, or an .npz archive."""

    def __init__(self, place: Path, modality: str):
        self.place, self.modality = place, modality
        self.archive = Archive(place, LARGEST) if place.suffix == ".npz" else None

    def where(self, name: str) -> object:
        return self.place / f"{name}.npy"

    def __contains__(self, name: str) -> bool:
        return f"{name}.npy" in self.archive.sizes if self.archive else os.path.isfile(self.place / f"{name}.npy")

    def names(self) -> set[str]:
        """The files that there are, whether anybody asks for them or not."""
        if self.archive:
            return set(self.archive.sizes)
        return {file.relative_to(self.place).as_posix() for file in self.place.rglob("*.npy")}

    def shape(self, name: str) -> tuple[int, int]:
        """[T, D] as the head says, if it can be used."""
        if self.archive:
            return self._frames(name, *self.archive.head(name))
        array = load_array(self.place / f"{name}.npy")
        return self._frames(name, array.shape, array.dtype)

    def read(self, name: str) -> np.ndarray:
        """Frames [T, D]."""
        array = self.archive.array(name) if self.archive else np.asarray(load_array(self.place / f"{name}.npy"))
        return array.reshape(self._frames(name, array.shape, array.dtype))

    def _frames(self, name: str, shape: tuple, dtype: np.dtype) -> tuple[int, int]:
        size = (1, *shape) if len(shape) == 1 else shape
        if dtype.kind not in "fiu" or len(size) != 2 or not size[1] or math.prod(size) * dtype.itemsize > LARGEST:
            expected = f"numbers [T, D], or [D] for one step, at most {LARGEST} bytes"
            raise CorpusError(self.where(name), expected, f"{dtype} {list(shape)}")
        return size  # type: ignore[return-value]


def settings_of(folder: Path) -> dict[str, Any]:
    """What corpus.toml says, if there is one."""
    if not (file := folder / SETTINGS).exists():
        return {}
    settings, modalities = read_toml(file, "the settings of a corpus"), list(MODALITIES.values())
    known: dict[str, tuple[str, Callable[[Any], bool]]] = {
        "name": ("a name for folders", lambda x: isinstance(x, str) and file_name(x.replace("/", "-"))),
        "classes": ("a list of different names", lambda x: isinstance(x, list) and len(set(map(str, x))) == len(x) > 1),
        "rates": (f"numbers above 0 of {modalities}", lambda x: _table(x, modalities, (int, float))),
        "features": ("tables, each with its modality", lambda x: isinstance(x, dict) and all(map(_a_set, x.items()))),
        "lengths": (f"whole numbers above 0 of {modalities}", lambda x: _table(x, modalities, (int,))),
    }
    for name, value in settings.items():
        what, good = known.get(name, (f"one of the settings {', '.join(known)}", lambda x: False))
        if not good(value):
            raise CorpusError(file, f"{name}: {what}", f"{value!r}"[:200])
    if "classes" in settings:
        settings["classes"] = list(map(str, settings["classes"]))
    return settings


def _a_set(item: tuple[str, Any]) -> bool:
    """Whether this is the name of a folder, and what is said of a set of features."""
    name, x = item
    good = file_name(name) and isinstance(x, dict) and x.get("modality") in list(MODALITIES.values())
    return good and ("rate" not in x or _table({"text": x["rate"]}, ["text"], (int, float)))


def _table(x: object, keys: list[str], kinds: tuple) -> bool:
    return isinstance(x, dict) and all(k in keys and type(v) in kinds and 0 < v < 1e9 for k, v in x.items())


def _rows(file: Path) -> list[dict[str, str]]:
    """The rows of utterances.csv, or of a label.npz in their form."""
    rows = read_table(file, ["id", "label"]) if file.name == TABLE else _labels_of(file)
    lines: dict[tuple, str] = {}
    label: dict[str, str] = {}
    for row in rows:
        where = f"{file} line {row['line']}"
        if not names_a_file(row["id"]):
            raise CorpusError(where, "an id that names a file in the folder", repr(row["id"]))
        place = (row["id"], row["fold"] if row.get("part") and row.get("fold") else "")
        if place in lines:
            raise CorpusError(where, "an id of its own for each utterance", f"{row['id']!r}, as in line {lines[place]}")
        if label.setdefault(row["id"], row["label"]) != row["label"]:
            raise CorpusError(where, f"the label {label[row['id']]!r}, as before", repr(row["label"]))
        lines[place] = row["line"]
        span(where, row)
    if not rows:
        raise CorpusError(file, "at least one utterance", "none")
    return rows


def span(where: str, row: Mapping[str, str]) -> tuple[float, float]:
    """Start and end of an utterance in seconds, NaN where they are not given; CorpusError if they cannot be."""
    given = [row.get(name, "") for name in ("start", "end")]
    try:
        start, end = (float(x or "nan") for x in given)
    except ValueError:
        start = end = 0.0
    if start >= end or any(x and not 0 <= n < 1e9 for x, n in zip(given, (start, end), strict=True)):
        raise CorpusError(where, "start and end: seconds, the first before the second", f"{given}")
    return start, end


def _labels_of(file: Path) -> list[dict[str, str]]:
    """label.npz of MERBench: by corpus (whole, train, val, test) the utterances, each with its "emo"."""
    rows = []
    try:
        archive = Archive(file, LARGEST)
        for name, part in MERBENCH.items():
            if f"{name}.npy" in archive.sizes:
                told = _object(archive.content(name))
                rows += [{"id": str(i), "label": str(told[i]["emo"]), "part": part} for i in told]
    except CorpusError:
        raise
    except Exception as error:  # a hostile file may raise anything
        raise CorpusError(file, "MERBench's labels by utterance", f"{type(error).__name__}: {error}"[:200]) from None
    return [{**row, "line": str(n)} for n, row in enumerate(rows, 1)]


def _object(data: bytes) -> dict:
    """The dictionary in an .npy file of one object."""
    file = io.BytesIO(data)
    np.lib.format.read_magic(file)
    np.lib.format.read_array_header_1_0(file)
    return pickles.load(file, len(data))


def _places(folder: Path, chosen: Mapping[str, str], sets: Mapping[str, Mapping]) -> dict[str, Path]:
    """Where each modality lies: as chosen, in a folder or archive of its name, or in the one set that is of it."""
    places = {}
    for m in MODALITIES.values():
        own = [name for name, about in sets.items() if about["modality"] == m]
        if m not in chosen and len(own) > 1:
            raise CorpusError(folder, f"one of the features of {m}: {m} = {' or '.join(map(repr, own))}", "none chosen")
        names = [chosen[m]] if m in chosen else [m, f"{m}.npz", *own]
        options = [p for name in names for p in (folder / "features" / name, folder / name)]
        found = [p for p in options if os.path.isdir(p) or (p.suffix == ".npz" and os.path.isfile(p))]
        if found:
            places[m] = found[0]
        elif m in chosen and chosen[m] != "none":
            raise CorpusError(folder, f"a folder of features {chosen[m]!r} for {m}", _sets(folder) or "none")
    if not places:
        expected = "text, video or audio as folders of .npy files or as .npz, or named, such as audio = ..."
        raise CorpusError(folder, expected, _sets(folder) or "no features")
    return places


def _sets(folder: Path) -> str:
    inner = folder / "features" if (folder / "features").is_dir() else folder
    return ", ".join(sorted(p.name for p in inner.iterdir() if p.is_dir() or p.suffix == ".npz"))


def placed_of(file: Path, rows: list[dict[str, str]]) -> tuple[list[int], dict[str, list[tuple[int, str]]]]:
    """The folds, and by utterance its places in them, as the columns fold and part say.

    fold alone: the fold in whose test part an utterance stands; it is dev in the one before, and train in the others.
    part alone: one fold. Both: a row for each fold.
    """
    has = [name for name in ("fold", "part") if any(row.get(name) for row in rows)]
    for row in rows:
        good = {"fold": re.fullmatch(r"\d{1,9}", row.get("fold", "")), "part": row.get("part") in PARTS}
        if wrong := [name for name in has if not good[name]]:
            expected = f"a number of a fold, and one of {', '.join(PARTS)}"
            raise CorpusError(f"{file} line {row['line']}", expected, f"{wrong[0]} {row.get(wrong[0])!r}")
    if not has:
        return [], {row["id"]: [] for row in rows}
    folds = sorted({int(row["fold"]) for row in rows}) if "fold" in has else [1]
    placed: dict[str, list[tuple[int, str]]] = {}
    for row in rows:
        own = int(row["fold"]) if "fold" in has else 1
        if "part" in has:
            placed.setdefault(row["id"], []).append((own, row["part"]))
        else:
            before = folds[folds.index(own) - 1]
            parts = {k: "test" if k == own else "dev" if k == before else "train" for k in folds}
            placed[row["id"]] = list(parts.items())
    return folds, placed
