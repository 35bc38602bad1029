"""The pickles of MMSA and MulT, in which MOSI, MOSEI, CH-SIMS and IEMOCAP features circulate.

{"train" | "valid" | "test": {"text", "audio", "vision": [N, T, D], and of labels
    MMSA: "regression_labels" [N] (else "classification_labels" [N]); "text_bert" [N, 3, L], "audio_lengths" [N], ..
    MulT: "labels" [N, 1, 1] of scores, or [N, C, 2] with a flag for each emotion}}

Sizes are read from the arrays. Scores become 7 classes by rounding, -3 to 3; edges of one's own are said when the
corpus is opened. Frames start at the first that is valid, wherever the padding is: by the mask of text_bert, by stated
lengths, or from the first to the last frame that is not zero, in this order.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mmer_core.errors import CorpusError
from mmer_core.formats.pickles import read_pickle
from mmer_core.store import Source, Utterance

PARTS = {"train": ("train",), "dev": ("valid", "dev", "val"), "test": ("test",)}
KEYS = {"text": ("text",), "video": ("vision", "video"), "audio": ("audio",)}
SENTIMENT = [str(k) for k in range(-3, 4)]
IEMOCAP = ["neutral", "happy", "sad", "angry"]  # the order of MulT's flags
EXPECTED = "a dictionary of train, valid and test, each with text, audio, vision [N, T, D] and labels (MMSA, MulT)"
NO_TIME = (
    "one vector an utterance, as the conversation papers have it: attention over time has no meaning there. "
    "Look for features with a time axis: MMSA's or MulT's unaligned pickles, or MERBench's folders *-FRA"
)


class Splits(Source):
    """All three parts in memory, checked; `skip` leaves out utterances with several labels, or none (told)."""

    named = True

    def __init__(self, file: Path, skip: bool = False):
        self.file, self.skip = file, skip
        self.told: list[str] = []
        self.tally: Counter[str] = Counter()
        self.sizes: list[tuple] = []  # [T, D] of each modality in the train part
        data = read_pickle(file, EXPECTED)
        if isinstance(data, (tuple, list)):
            raise CorpusError(file, EXPECTED, f"{len(data)} things in a row: {NO_TIME}")
        self.parts = {part: _part(file, data, names) for part, names in PARTS.items()}
        self.frames = {part: self._frames(part) for part in PARTS}
        self.ids = {part: _ids(file, part, self.parts[part], self._n(part)) for part in PARTS}
        classes, self.scores, self.label = self._labels()
        self.folds = [1]
        self.facts = {"name": file.stem, "source": str(file), "synthetic": False, "words": None, "classes": classes}

    @staticmethod
    def watched(file: Path) -> list[Path]:
        return [file]

    def utterances(self) -> Iterator[Utterance]:
        for part, frames in self.frames.items():
            said = _column(self.file, self.parts[part], "raw_text", self._n(part))
            for i, name in enumerate(self.ids[part]):
                if self.label[part][i] < 0:
                    continue
                arrays, lengths = {}, {}
                for m, (x, start, n) in frames.items():
                    lengths[m] = int(n[i])
                    arrays[m] = np.zeros(x.shape[1:], np.float32)
                    valid = x[i, start[i] : start[i] + n[i]]
                    with np.errstate(over="ignore"):
                        arrays[m][: len(valid)] = np.where(valid == -np.inf, 0, valid) if m == "audio" else valid
                facts: dict[str, Any] = {"scores": float(self.scores[part][i])} if self.scores else {}
                facts |= {"texts": _text(said[i])} if said is not None else {}
                facts |= {"dialogues": name.split("$_$")[0]} if "$_$" in name else {}
                yield Utterance(name, [(1, part)], int(self.label[part][i]), lengths, arrays, facts=facts)

    def findings(self, counts: list[str], overlaps: list[str]) -> list[str]:
        return [*counts, *dict.fromkeys(self.told), *(f"{n} {what}." for what, n in self.tally.items() if n), *overlaps]

    def _n(self, part: str) -> int:
        return len(next(iter(self.frames[part].values()))[0])

    def _frames(self, part: str) -> dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Of each modality the frames [N, T, D], where they start, and how many are valid, [N] each."""
        data, found, sizes = self.parts[part], {}, set()
        for m, names in KEYS.items():
            key = next((key for key in names if key in data), None)
            if key is None:
                continue
            x, where = _numbers(f"{self.file} {part} {key}", data[key]), f"{self.file} {part} {key}"
            if x.ndim != 3 or 0 in x.shape[1:]:
                found_ = f"{list(x.shape)}" + (f": {NO_TIME}" if x.ndim == 2 else "")
                raise CorpusError(where, "features [N, T, D]", found_)
            if m == "audio" and (gone := int((x == -np.inf).sum())):
                self.tally["numbers of audio are -inf, taken as 0"] += gone
            how, start, n = self._valid(part, m, key, x)
            left = int(((start > 0) & (n > 0)).sum())
            self.told.append(f"{m}: lengths from {how}.")
            self.tally[f"rows of {m} are padded on the left: rolled to the start"] += left
            found[m] = (x, start, n)
            sizes.add(len(x))
        if len(sizes) != 1:
            raise CorpusError(
                f"{self.file} {part}", "text, audio or vision of as many utterances each", f"{sorted(sizes)}"
            )
        if part != "train" and [x[0].shape[1:] for x in found.values()] != self.sizes:
            raise CorpusError(
                f"{self.file} {part}", f"sizes as in train, {self.sizes}", f"{[x[0].shape for x in found.values()]}"
            )
        self.sizes = [x[0].shape[1:] for x in found.values()]
        return found

    def _valid(self, part: str, m: str, key: str, x: np.ndarray) -> tuple[str, np.ndarray, np.ndarray]:
        """Where lengths are from, and first valid frame and number of valid frames of each utterance."""
        data, where, steps = self.parts[part], f"{self.file} {part}", x.shape[1]
        stated = data.get(f"{key}_lengths")
        if "text_bert" in data and (m == "text" or stated is None):
            bert = _numbers(f"{where} text_bert", data["text_bert"])
            if bert.shape[:2] != (len(x), 3) or bert.ndim != 3 or (m == "text" and bert.shape[2] != steps):
                raise CorpusError(f"{where} text_bert", f"[{len(x)}, 3, L], L as in text", f"{list(bert.shape)}")
            if bert.shape[2] == steps:
                return ("the mask of text_bert", *_outermost(bert[:, 1] != 0))
        start, n = _outermost((x != 0).any(2) & ~(x == -np.inf).all(2))
        if stated is None:
            return "the first and last frame that is not zero", start, n
        lengths = _numbers(f"{where} {key}_lengths", stated).reshape(-1)
        if (
            len(lengths) != len(x)
            or (lengths != np.round(lengths)).any()
            or (lengths < 0).any()
            or (lengths > steps).any()
        ):
            raise CorpusError(f"{where} {key}_lengths", f"{len(x)} whole numbers in 0..{steps}", f"{lengths[:5]}, ..")
        lengths = lengths.astype(np.int64)
        left = (start >= steps - lengths) & (start + n > lengths) & (n > 0)
        behind = (start + n > lengths) & ~left
        self.tally[f"rows of {m} hold numbers behind their stated length: left out"] += int(behind.sum())
        return f"{key}_lengths", np.where(left, steps - lengths, 0), lengths

    def _labels(self) -> tuple[list[str], dict[str, np.ndarray] | None, dict[str, np.ndarray]]:
        """Names of classes, scores by part where there are any, and labels by part; -1: left out."""
        for key, read in {"regression_labels": _rounded, "classification_labels": _numbered, "labels": _either}.items():
            if all(key in data for data in self.parts.values()):
                given = {part: _numbers(f"{self.file} {part} {key}", self.parts[part][key]) for part in PARTS}
                for part, x in given.items():
                    if x.ndim == 0 or len(x) != self._n(part) or not np.isfinite(x).all():
                        raise CorpusError(
                            f"{self.file} {part} {key}", f"{self._n(part)} finite labels", f"{list(x.shape)}"
                        )
                return read(self, key, given)
        raise CorpusError(self.file, "regression_labels, classification_labels or labels in each part", "none of them")

    def several(self, part: str, key: str, flags: np.ndarray) -> np.ndarray:
        """The class with the positive flag, [N]; where there is not exactly one: refused, or -1."""
        odd = np.flatnonzero(flags.sum(1) != 1)
        if len(odd) and not self.skip:
            found = f"{flags[odd[0]].sum()} in row {odd[0]} ({len(odd)} such; skip=True leaves them out)"
            raise CorpusError(f"{self.file} {part} {key}", "one positive flag an utterance", found)
        self.tally["utterances without exactly one positive flag are left out"] += len(odd)
        return np.where(flags.sum(1) == 1, flags.argmax(1), -1)


def _rounded(source: Splits, key: str, given: Mapping[str, np.ndarray]) -> tuple:
    scores = {part: x.reshape(-1).astype(np.float64) for part, x in given.items()}
    for part, x in given.items():
        if x.size != len(x):
            raise CorpusError(f"{source.file} {part} {key}", "one score an utterance", f"{list(x.shape)}")
    source.told.append("Classes are scores rounded to whole numbers from -3 to 3 (halves to even ones).")
    beyond = sum(int((np.abs(x) > 3).sum()) for x in scores.values())
    source.tally["scores are beyond -3 or 3, and count as these"] += beyond
    label = {part: np.round(np.clip(x, -3, 3)).astype(np.int64) + 3 for part, x in scores.items()}
    return SENTIMENT, scores, label


def _numbered(source: Splits, key: str, given: Mapping[str, np.ndarray]) -> tuple:
    for part, x in given.items():
        if x.size != len(x) or (x != np.round(x)).any() or x.min(initial=0) < 0 or x.max(initial=0) > 999:
            raise CorpusError(
                f"{source.file} {part} {key}", "one whole number in 0..999 an utterance", f"{x.reshape(-1)[:5]}"
            )
    label = {part: x.reshape(-1).astype(np.int64) for part, x in given.items()}
    n = 1 + max(int(x.max(initial=0)) for x in label.values())
    return ["negative", "neutral", "positive"] if n == 3 else [f"class {k}" for k in range(max(n, 2))], None, label


def _either(source: Splits, key: str, given: Mapping[str, np.ndarray]) -> tuple:
    """MulT's labels: scores, or a pair of flags for each emotion."""
    if not all(x.ndim == 3 and x.shape[2] == 2 and x.shape[1] > 1 for x in given.values()):
        return _rounded(source, key, given)
    n = next(iter(given.values())).shape[1]
    for part, x in given.items():
        if x.shape[1] != n or not np.isin(x, (0, 1)).all() or (x.sum(2) != 1).any():
            raise CorpusError(
                f"{source.file} {part} {key}", f"{n} pairs of flags, [1, 0] or [0, 1]", f"{list(x.shape)}"
            )
    classes = IEMOCAP if n == 4 else [f"class {k}" for k in range(n)]
    return classes, None, {part: source.several(part, key, x[:, :, 1].astype(np.int64)) for part, x in given.items()}


def _part(file: Path, data: object, names: tuple[str, ...]) -> dict:
    found = next((data[name] for name in names if name in data), None) if isinstance(data, dict) else None
    if not isinstance(found, dict):
        raise CorpusError(file, EXPECTED, f"no {names[0]}" if isinstance(data, dict) else type(data).__name__)
    return found


def _numbers(where: str, x: object) -> np.ndarray:
    try:
        found = np.asarray(x if not isinstance(x, (list, tuple)) or _only_numbers(x) else None)
    except ValueError:  # lists of different lengths
        found = np.empty(0, object)
    if found.dtype.kind not in "fiub":
        raise CorpusError(where, "an array of numbers", f"{found.dtype} {list(found.shape)}")
    return found


def _only_numbers(x: list | tuple) -> bool:
    """Of lists, before an array is made of them: texts would all take the room of the longest."""
    return all(_only_numbers(v) if isinstance(v, (list, tuple)) else isinstance(v, (int, float, np.ndarray)) for v in x)


def _outermost(used: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """First step that is used, and number of steps to the last one, of each row [N, T]; 0 and 0 where none is."""
    start, after = used.argmax(1), used.shape[1] - used[:, ::-1].argmax(1)
    any_ = used.any(1)
    return np.where(any_, start, 0), np.where(any_, after - start, 0)


def _ids(file: Path, part: str, data: Mapping, n: int) -> list[str]:
    """Ids as text; those of MulT have three parts, for most files there are none."""
    if data.get("id") is None:
        return [f"{part}/{i}" for i in range(n)]
    given = _column(file, data, "id", n)
    assert given is not None
    ids = ["_".join(map(_text, i)) if isinstance(i, (list, tuple, np.ndarray)) else _text(i) for i in given]
    if len(set(ids)) < n:
        twice = next(name for k, name in enumerate(ids) if name in ids[:k])
        raise CorpusError(f"{file} {part} id", "an id of its own for each utterance", f"{twice!r} twice")
    return ids


def _column(file: Path, data: Mapping, key: str, n: int) -> list | None:
    """The values of all utterances, if there are any."""
    if data.get(key) is None:
        return None
    given = data[key].tolist() if isinstance(data[key], np.ndarray) else data[key]
    if not isinstance(given, (list, tuple)) or len(given) != n:
        raise CorpusError(f"{file} {key}", f"{n} of them, as there are features", type(given).__name__)
    return list(given)


def _text(x: object) -> str:
    return x.decode("utf-8", "replace") if isinstance(x, bytes) else str(x)
