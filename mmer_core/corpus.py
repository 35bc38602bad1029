"""The corpus: every utterance once, memory-mapped, and the folds as index arrays (paper section 3, "Dataset").

A *store* is a folder of plain .npy files and one corpus.json. It is written once (by `store.write_store`), appears
complete or not at all, and is never changed afterwards, so that worker processes may map the same pages.

    label [N]   length_text, length_video, length_audio [N]   folds.npz   audio_scale.npy [folds, 2, D_audio]
    video [N, T, D]   audio [N, T, D]   tokens [N, T] + embedding [V, D], or text [N, T, D]
    planted_text, planted_video, planted_audio [N, T]: only the demo corpus (0 nothing, 1 cue, 2 decoy)

A corpus may lack one or two of the modalities; then it has neither their arrays nor their lengths.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from mmer_core.errors import CorpusError, MmerError

FORMAT = 1
MODALITIES = {"t": "text", "v": "video", "a": "audio"}  # the order of the study
HOLDS = {"tokens": "text", "text": "text", "video": "video", "audio": "audio"}  # array: the modality that it holds
PARTS = ("train", "dev", "test")


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
    path: Path
    label: np.ndarray  # [N] int64
    lengths: dict[str, np.ndarray]  # of those of "text", "video" and "audio" that there are: [N] int64, at least 1

    def __len__(self) -> int:
        return len(self.label)

    def __repr__(self) -> str:
        kind = "synthetic corpus" if self.synthetic else "corpus"
        return f"<{kind} {self.name!r}: {len(self)} utterances, {len(self.classes)} classes, {len(self.folds)} folds>"

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
        x = self.arrays[name][rows, :steps]
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
        if "tokens" not in self.arrays:
            return [f"[{i}]" for i in range(n)]
        return [(self.words and self.words[i]) or f"#{i}" for i in self.arrays["tokens"][row, :n]]

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
        counts = np.bincount(np.asarray(self.arrays["tokens"])[valid], minlength=len(self.arrays["embedding"]))
        return counts, np.abs(self.arrays["embedding"]).sum(1) > 0


_NOTED = [f for f in fields(Corpus) if f.name not in ("path", "label", "lengths")]  # what corpus.json holds


def open_store(path: str | Path) -> Corpus:
    """Open a store in place. Reads the small arrays and maps the large ones.

    CorpusError if the folder is no store, or a file is missing, truncated, or contradicts what is noted.
    """
    path = Path(path).resolve()
    noted = _read_description(path / "corpus.json")
    arrays = {}
    for name, (shape, dtype) in noted["arrays"].items():
        array = load_array(path / f"{name}.npy")
        if [list(array.shape), str(array.dtype)] != [shape, dtype]:
            raise CorpusError(path / f"{name}.npy", f"{dtype} {shape}", f"{array.dtype} {list(array.shape)}")
        arrays[name] = np.asarray(array) if array.ndim == 1 or name == "embedding" else array  # the small ones
    label, sizes = arrays.pop("label"), sizes_of(arrays)
    if noted["sizes"] != {m: list(size) for m, size in sizes.items()}:
        raise CorpusError(path / "corpus.json", f"the sizes of the arrays, {sizes}", f"{noted['sizes']}")
    noted["sizes"] = Sizes(**{m: sizes.get(m, Size()) for m in MODALITIES.values()}, classes=len(noted["classes"]))
    noted["folds"] = _read_folds(path / "folds.npz", noted["folds"])
    noted["dropped"] = {int(k): n for k, n in noted["dropped"].items()}
    noted["arrays"] = arrays
    corpus = Corpus(**noted, path=path, label=label, lengths={m: arrays.pop(f"length_{m}") for m in sizes})
    counts = {name: len(x) for name, x in arrays.items() if name not in ("embedding", "audio_scale")}
    counts |= {"ids": len(corpus.ids), **{f"length_{m}": len(x) for m, x in corpus.lengths.items()}}
    if set(counts.values()) != {len(label)}:
        raise CorpusError(path / "corpus.json", f"{len(label)} utterances, as in label.npy", f"{counts}")
    check_range(path / "label.npy", "labels", label, 0, len(corpus.classes) - 1)
    for m, length in corpus.lengths.items():
        check_range(path / f"length_{m}.npy", "time steps", length, 1, sizes[m].length)
    for rows in chain(*corpus.folds.values()):
        check_range(path / "folds.npz", "rows", rows, 0, len(label) - 1)
    return corpus


def sizes_of(arrays: Mapping[str, np.ndarray]) -> dict[str, Size]:
    """The size of each modality that there is, as the shapes of the arrays say."""
    vectors = {name: "embedding" if name == "tokens" else name for name in HOLDS if name in arrays}
    return {HOLDS[name]: Size(arrays[name].shape[1], arrays[v].shape[-1]) for name, v in vectors.items()}


def load_array(file: Path) -> np.ndarray:
    """Map one .npy file; CorpusError if it is missing, truncated, or holds Python objects."""
    if not file.is_file():
        raise CorpusError(file, "a file", "none")
    try:
        return np.lib.format.open_memmap(file, mode="r")  # unlike np.load, never reads a zip or a pickle
    except Exception as error:  # a broken header may raise anything
        raise CorpusError(file, "a whole .npy array of numbers", f"{type(error).__name__}: {error}") from None


def check_range(file: object, what: str, x: np.ndarray, low: int, high: int, which: str = "") -> None:
    """CorpusError unless all numbers of an array are in low..high."""
    if x.size and not low <= x.min() <= x.max() <= high:
        raise CorpusError(file, f"{what} in {low}..{high}{which}", f"{x.min()}..{x.max()}")


def digest(*arrays: np.ndarray) -> bytes:
    """A fingerprint of some arrays (16 bytes): the same numbers of the same types give the same digest everywhere."""
    return hashlib.blake2b(b"".join(a.tobytes() for a in arrays), digest_size=16).digest()


def write_description(folder: Path, noted: Mapping[str, Any]) -> None:
    """Write corpus.json: the arrays that are in the folder, and what else is to be noted, in the order of `Corpus`."""
    arrays = {file.stem: load_array(file) for file in sorted(folder.glob("*.npy"))}
    shapes = {name: [x.shape, str(x.dtype)] for name, x in arrays.items()}
    noted = {**noted, "sizes": sizes_of(arrays), "arrays": shapes}
    if unknown := noted.keys() - {f.name for f in _NOTED}:
        raise TypeError(f"corpus.json notes fields of Corpus; it has none for {unknown}")
    description = {"format": FORMAT, **{f.name: noted[f.name] for f in _NOTED if f.name in noted}}
    (folder / "corpus.json").write_text(json.dumps(description), encoding="utf-8")


def _read_description(file: Path) -> dict:
    try:
        description = json.loads(file.read_text(encoding="utf-8"))
        version = description["format"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise CorpusError(file, "the description of a store", f"{type(error).__name__}: {error}") from None
    if version != FORMAT:
        raise CorpusError(file, f"store format {FORMAT}", f"format {version}; import the corpus again")
    if missing := {f.name for f in _NOTED if f.default is MISSING} - description.keys():
        raise CorpusError(file, "the description of a store", f"one without {', '.join(sorted(missing))}")
    return {f.name: description[f.name] for f in _NOTED if f.name in description}


def _read_folds(file: Path, numbers: Sequence[int]) -> dict[int, Fold]:
    try:
        with open(file, "rb") as f, np.load(f, allow_pickle=False) as z:
            return {k: Fold(*(z[f"{k}_{part}"] for part in PARTS)) for k in numbers}
    except Exception as error:  # zipfile and numpy have many
        raise CorpusError(file, "the rows of each fold", f"{type(error).__name__}: {error}") from None
