"""The corpus: every utterance once, memory-mapped, and the folds as index arrays (paper section 3, "Dataset").

A *store* is a folder of plain .npy files and one corpus.json. It is written once (by `store.write_store`), appears
complete or not at all, and is never changed afterwards, so that worker processes may map the same pages.

    label [N]   length_text, length_video, length_audio [N]   folds.npz   audio_scale.npy [folds, 2, D_audio]
    video [N, T, D]   audio [N, T, D]   tokens [N, T] + embedding [V, D], or text [N, T, D]
    digest [N, 16]: of valid frames and lengths   moments [N, 2, D_audio]: mean and squared deviations of valid frames
    planted_text, planted_video, planted_audio [N, T]: only the demo corpus (0 nothing, 1 cue, 2 decoy)

A corpus may lack one or two of the modalities; then it has neither their arrays nor their lengths.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from mmer_core.arrays import Archive, check_range, frames_digest, load_array
from mmer_core.description import NUMBERS, TEXTS, read_description
from mmer_core.errors import CorpusError, MmerError

FORMAT = 1
MODALITIES = {"t": "text", "v": "video", "a": "audio"}  # the order of the study
HOLDS = {"tokens": "text", "text": "text", "video": "video", "audio": "audio"}  # array: the modality that it holds
PARTS = ("train", "dev", "test")
PER_ROW = ("ids", *TEXTS, *NUMBERS)  # fields with one a row
LARGEST = 2**27  # bytes of the rows of a part
CHUNK = 64  # utterances read at a time when a whole corpus is gone through


class Size(NamedTuple):
    """Time steps T and features D of one modality; none of either where a corpus lacks it."""

    length: int = 0
    dim: int = 0


@dataclass(frozen=True)
class Sizes:
    """All that a model needs to know of a corpus."""

    text: Size
    video: Size
    audio: Size
    classes: int


class Fold(NamedTuple):
    """Rows of the corpus in the three parts of one fold."""

    train: np.ndarray
    dev: np.ndarray
    test: np.ndarray


@dataclass(frozen=True, eq=False, kw_only=True)
class Corpus:
    """An open store. Arrays of features are memory maps: nothing is read before a batch asks for it.

    The fields above `path` are what corpus.json notes, in its order. A new one is written and read back by itself: give
    it a default here, so that older stores open, and name its value in the reader that knows it (`Source.facts`).
    """

    name: str
    source: str
    synthetic: bool
    fingerprint: str
    classes: list[str]
    sizes: Sizes
    folds: dict[int, Fold]
    findings: list[str]  # what the import has to tell, in sentences
    dropped: dict[int, int]  # by fold: utterances left out because they have no video
    arrays: dict[str, np.ndarray]  # without label and lengths
    ids: list[str]  # one a row: where the utterance was first seen, such as "fold01/train/12"
    words: list[str] | None  # one a token id
    rates: dict[str, float] | None = None  # frames a second of "video" and "audio", where they are known
    texts: list[str] | None = None  # what was said; this and what follows one a row, where the source tells it
    speakers: list[str] | None = None
    dialogues: list[str] | None = None
    sessions: list[str] | None = None
    starts: list[float] | None = None  # seconds
    ends: list[float] | None = None
    scores: list[float] | None = None  # that labels are made of, such as sentiment from -3 to 3
    stamp: dict[str, list] | None = None  # files of the source as they were imported: bytes, and seconds of the change
    path: Path
    label: np.ndarray  # [N] int64
    lengths: dict[str, np.ndarray]  # of those of "text", "video" and "audio" that there are: [N] int64, at least 1
    view: tuple | None = None  # of a corpus with other folds or classes than its store: see `views`
    at: np.ndarray | None = None  # [N] rows of the store, where a view leaves some out

    def __len__(self) -> int:
        return len(self.label)

    def __repr__(self) -> str:
        kind = "synthetic corpus" if self.synthetic else "corpus"
        return f"<{kind} {self.name!r}: {len(self)} utterances, {len(self.classes)} classes, {len(self.folds)} folds>"

    @property
    def modalities(self) -> str:
        """The letters of the modalities that there are, such as "tva"."""
        return "".join(m for m, name in MODALITIES.items() if name in self.lengths)

    @property
    def title(self) -> str:
        """The name for headings of figures and tables; a synthetic corpus always says what it is."""
        return f"{self.name} corpus (synthetic)" if self.synthetic else f"{self.name} corpus"

    def stored(self, modality: str) -> tuple[str, ...]:
        """Names of the arrays that hold a modality: its features, or tokens and the embedding that they point into."""
        if modality not in self.lengths:
            raise MmerError(f"{self!r} has no {modality!r}; it has {', '.join(self.lengths)}")
        name = next(name for name, held in HOLDS.items() if held == modality and name in self.arrays)
        return (name, "embedding") if name == "tokens" else (name,)

    def column(self, name: str, rows: ArrayLike | None = None, steps: int | None = None) -> np.ndarray:
        """Rows [B] of one of the arrays that have a row an utterance, or all of them: a fresh array."""
        rows = np.arange(len(self)) if rows is None else np.asarray(rows)
        return self.arrays[name][rows if self.at is None else self.at[rows], :steps]

    def valid_frames(self) -> Iterator[dict[str, np.ndarray]]:
        """Of each utterance the valid frames [n, D] of each modality, in its order."""
        for start in range(0, len(self), CHUNK):
            rows = np.arange(start, min(start + CHUNK, len(self)))
            x = {m: self.features(m, rows) for m in self.lengths}
            for i, row in enumerate(rows):
                yield {m: frames[i, : self.lengths[m][row]] for m, frames in x.items()}

    def digests(self) -> np.ndarray:
        """[N, 16] bytes for each utterance: the same for the same valid frames, whatever format they come from."""
        if "digest" in self.arrays:
            return self.column("digest")
        return np.stack([frames_digest(frames) for frames in self.valid_frames()])  # a store of before

    @property
    def content(self) -> str:
        """Hex digits that tell valid frames, lengths and labels from others: not order, padding, names or folds."""
        rows = np.column_stack([self.digests(), self.label.astype("<i8").view(np.uint8).reshape(-1, 8)])
        return hashlib.blake2b(np.unique(rows, axis=0).tobytes(), digest_size=8).hexdigest()

    def features(self, modality: str, rows: ArrayLike, fold: int | None = None, steps: int | None = None) -> np.ndarray:
        """The "text", "video" or "audio" of some utterances: [B, steps or T, D] float32, a fresh array.

        Args:
            rows: [B] rows of the corpus.
            fold: if given, audio is standardised with the statistics of this fold's train part (valid frames only);
                padding stays zero.
            steps: return only so many time steps.
        """
        rows = np.asarray(rows)
        name, *vectors = self.stored(modality)
        x = self.column(name, rows, steps)
        if vectors:
            return self.arrays[vectors[0]][x]
        if modality == "audio" and fold is not None:
            mean, std = self.arrays["audio_scale"][list(self.folds).index(fold)]
            x -= mean
            x /= std
            x[np.arange(x.shape[1]) >= self.lengths["audio"][rows, None]] = 0
        return x

    def transcript(self, row: int) -> list[str]:
        """The words on the text axis of one utterance; token numbers where the corpus has no dictionary."""
        n = self.lengths["text"][row] if "text" in self.lengths else 0
        if "tokens" in self.arrays:
            return [(self.words and self.words[i]) or f"#{i}" for i in self.column("tokens", [row], n)[0]]
        said = self.texts[row].split() if self.texts else []
        return said if len(said) == n else [f"[{i}]" for i in range(n)]

    def report(self) -> dict[str, pd.DataFrame]:
        """What is in the corpus, as tables: "classes", "folds", "lengths" (time steps) and "text"."""
        counts = np.bincount(self.label, minlength=len(self.classes))
        classes = pd.DataFrame({"class": self.classes, "utterances": counts, "share": counts / counts.sum()})
        parts = [(k, *map(len, fold), self.dropped[k]) for k, fold in self.folds.items()]
        folds = pd.DataFrame(parts, columns=["fold", *PARTS, "no video"])
        rows = []
        for m, n in self.lengths.items():
            full, dim = getattr(self.sizes, m)
            rows.append((m, dim, full, *np.quantile(n, [0.05, 0.5, 0.95]), 1 - n.mean() / full, (n == full).sum()))
        names = ["modality", "features", "steps", "5%", "median", "95%", "share of padding", "utterances that fill it"]
        lengths = pd.DataFrame(rows, columns=names)
        return {"classes": classes, "folds": folds, "lengths": lengths, "text": self._text_report()}

    def _text_report(self) -> pd.DataFrame:
        if "tokens" not in self.arrays:
            kept = "stored as vectors, without token ids" if "text" in self.lengths else "not in this corpus"
            return pd.DataFrame([{"what": f"text is {kept}", "value": len(self)}])
        counts, has_vector = self.token_counts()
        rows = {
            "words in the embedding": len(counts),
            "of these, used in the corpus": (counts > 0).sum(),
            "of the used, with a vector that is not zero": ((counts > 0) & has_vector).sum(),
            "tokens in the corpus": counts.sum(),
            "of these, with a vector that is not zero": counts[has_vector].sum(),
        }
        return pd.DataFrame({"what": rows.keys(), "value": map(int, rows.values())})

    def token_counts(self) -> tuple[np.ndarray, np.ndarray]:
        """How often each word of the embedding [V] stands in the corpus, and whether its vector is not zero [V]."""
        if "tokens" not in self.arrays:
            raise MmerError(f"{self!r} holds no text as token ids")
        valid = np.arange(self.sizes.text.length) < self.lengths["text"][:, None]
        counts = np.bincount(self.column("tokens")[valid], minlength=len(self.arrays["embedding"]))
        return counts, np.abs(self.arrays["embedding"]).sum(1) > 0


_NOTED = [f for f in fields(Corpus) if f.name not in ("path", "label", "lengths", "view", "at")]


def open_store(path: str | Path) -> Corpus:
    """Open a store in place. Reads the small arrays and maps the large ones.

    CorpusError if the folder is no store, or a file is missing, truncated, or contradicts what is noted.
    """
    path = Path(path).resolve()
    required = {f.name for f in _NOTED if f.default is MISSING}
    noted = read_description(path / "corpus.json", FORMAT, required, [f.name for f in _NOTED])
    arrays = {}
    for name, (shape, dtype) in noted["arrays"].items():
        array = load_array(path / f"{name}.npy")
        if [list(array.shape), str(array.dtype)] != [shape, dtype]:
            raise CorpusError(path / f"{name}.npy", f"{dtype} {shape}", f"{array.dtype} {list(array.shape)}")
        arrays[name] = np.asarray(array) if array.ndim == 1 or name == "embedding" else array  # the small ones
    sizes = _check_arrays(path, noted, arrays)
    _check_numbers(path, noted, arrays)
    label = arrays.pop("label")
    noted["sizes"] = Sizes(**{m: sizes.get(m, Size()) for m in MODALITIES.values()}, classes=len(noted["classes"]))
    noted["folds"] = _read_folds(path / "folds.npz", noted["folds"])
    check_folds(path / "folds.npz", noted["folds"], len(label))
    noted["dropped"] = {int(k): count for k, count in noted["dropped"].items()}
    noted["arrays"] = arrays
    return Corpus(**noted, path=path, label=label, lengths={m: arrays.pop(f"length_{m}") for m in sizes})


def _check_arrays(path: Path, noted: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> dict[str, Size]:
    """The sizes of the modalities, if all arrays are what they should be and none is missing."""
    odd = [name for name in arrays if not re.fullmatch("[a-z_]+", name)]
    flat = {"label"} | {f"length_{HOLDS[name]}" for name in HOLDS if name in arrays}
    wrong = odd + [name for name in flat if name not in arrays or arrays[name].ndim != 1 or arrays[name].dtype != int]
    wrong += [name for name in (*HOLDS, "embedding") if name in arrays and not _as_stored(name, arrays[name])]
    if wrong or len(flat) == 1 or ("tokens" in arrays) > ("embedding" in arrays):
        expected = f"modalities as floats [N, T, D] or tokens [N, T] of an embedding, and whole numbers: {sorted(flat)}"
        raise CorpusError(
            path / "corpus.json", expected, f"{ {name: noted['arrays'].get(name) for name in wrong} or flat }"
        )
    sizes = sizes_of(arrays)
    if noted["sizes"] != {m: list(size) for m, size in sizes.items()}:
        raise CorpusError(path / "corpus.json", f"the sizes of the arrays, {sizes}", f"{noted['sizes']}")
    n = len(arrays["label"])
    counts = {name: len(x) for name, x in arrays.items() if name not in ("embedding", "audio_scale")}
    counts |= {name: len(noted[name]) for name in PER_ROW if noted.get(name) is not None}
    if set(counts.values()) != {n}:
        raise CorpusError(path / "corpus.json", f"{n} utterances, as in label.npy", f"{counts}")
    check_range(path / "label.npy", "labels", arrays["label"], 0, len(noted["classes"]) - 1)
    for m, size in sizes.items():
        check_range(path / f"length_{m}.npy", "time steps", arrays[f"length_{m}"], 1, size.length)
    return sizes


def _as_stored(name: str, x: np.ndarray) -> bool:
    return (x.ndim, x.dtype.kind) == {"tokens": (2, "i"), "embedding": (2, "f")}.get(name, (3, "f"))


def _check_numbers(path: Path, noted: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> None:
    """CorpusError if tokens have no vector, or what all utterances share is no number."""
    if "tokens" in arrays:
        check_range(path / "tokens.npy", "token ids", arrays["tokens"], 0, len(arrays["embedding"]) - 1)
    if "audio" in arrays and noted["folds"]:
        scale, expected = arrays.get("audio_scale"), [len(noted["folds"]), 2, arrays["audio"].shape[2]]
        if scale is None or list(scale.shape) != expected:
            found = "none" if scale is None else f"{list(scale.shape)}"
            raise CorpusError(path / "audio_scale.npy", f"{expected}", found)
    for name in ("embedding", "audio_scale"):
        if name in arrays and not np.isfinite(arrays[name]).all():
            raise CorpusError(path / f"{name}.npy", "finite numbers", "NaN or infinity")


def check_folds(where: object, folds: Mapping[int, Fold], n: int, ids: Sequence[str] = ()) -> None:
    """CorpusError unless every part of every fold holds some of n utterances, and no two parts of one share any."""
    for k, fold in folds.items():
        seen = np.zeros(n, np.int8)
        for number, (part, rows) in enumerate(zip(PARTS, fold, strict=True), 1):
            if rows.ndim != 1 or not rows.size or rows.dtype.kind not in "iu":
                found = f"{rows.dtype} {list(rows.shape)}" if rows.size else "none"
                raise CorpusError(f"{where} fold {k} {part}", "at least one utterance", found)
            check_range(where, "rows", rows, 0, n - 1)
            if len(both := rows[seen[rows] > 0]):
                found = f"{len(np.unique(both))}, the first one {ids[both[0]] if ids else both[0]}"
                parts = f"both {PARTS[seen[both[0]] - 1]} and {part}"
                raise CorpusError(f"{where} fold {k}", f"no utterance in {parts}", found)
            seen[rows] = number


def sizes_of(arrays: Mapping[str, np.ndarray]) -> dict[str, Size]:
    """The size of each modality that there is, as the shapes of the arrays say."""
    vectors = {name: "embedding" if name == "tokens" else name for name in HOLDS if name in arrays}
    return {HOLDS[name]: Size(arrays[name].shape[1], arrays[v].shape[-1]) for name, v in vectors.items()}


def write_description(folder: Path, noted: Mapping[str, Any]) -> None:
    """Write corpus.json: the arrays that are in the folder, and what else is to be noted, in the order of `Corpus`."""
    arrays = {file.stem: load_array(file) for file in sorted(folder.glob("*.npy"))}
    shapes = {name: [x.shape, str(x.dtype)] for name, x in arrays.items()}
    noted = {**noted, "sizes": sizes_of(arrays), "arrays": shapes}
    if unknown := noted.keys() - {f.name for f in _NOTED}:
        raise TypeError(f"corpus.json notes fields of Corpus; it has none for {unknown}")
    description = {"format": FORMAT, **{f.name: noted[f.name] for f in _NOTED if f.name in noted}}
    (folder / "corpus.json").write_text(json.dumps(description), encoding="utf-8")


def _read_folds(file: Path, numbers: Sequence[int]) -> dict[int, Fold]:
    archive = Archive(file, LARGEST)
    return {k: Fold(*(archive.array(f"{k}_{part}").copy() for part in PARTS)) for k in numbers}
