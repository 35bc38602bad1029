"""The corpus: every utterance once, memory-mapped, and the folds as index arrays (paper section 3, "Dataset").

A *store* is a folder of plain .npy files and one corpus.json. It is written once (by `formats` or `demo`), appears
complete or not at all, and is never changed afterwards, so that worker processes may map the same pages.

    label [N]   length_text, length_video, length_audio [N]   folds.npz   audio_scale.npy [folds, 2, D_audio]
    video [N, T, D]   audio [N, T, D]   tokens [N, T] + embedding [V, D], or text [N, T, D]
    planted_text, planted_video, planted_audio [N, T]: only the demo corpus (0 nothing, 1 cue, 2 decoy)
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from mmer_core.errors import CorpusError

FORMAT = 1
MODALITIES = {"t": "text", "v": "video", "a": "audio"}  # the order of the study
PARTS = ("train", "dev", "test")
FIELDS = ("name", "source", "synthetic", "classes", "fingerprint", "findings", "ids", "words")  # as in corpus.json


class Size(NamedTuple):
    """Time steps T and features D of one modality."""

    length: int
    dim: int


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


@dataclass(frozen=True, eq=False)
class Corpus:
    """An open store. Arrays of features are memory maps: nothing is read before a batch asks for it."""

    path: Path
    name: str
    source: str
    synthetic: bool
    classes: list[str]
    sizes: Sizes
    fingerprint: str
    findings: list[str]  # what the import has to tell, in sentences
    dropped: dict[int, int]  # by fold: utterances left out because they have no video
    ids: list[str]  # one a row: where the utterance was first seen, such as "fold01/train/12"
    words: list[str] | None  # one a token id
    label: np.ndarray  # [N] int64
    lengths: dict[str, np.ndarray]  # text, video, audio: [N] int64, at least 1
    folds: dict[int, Fold]
    arrays: dict[str, np.ndarray]

    def __len__(self) -> int:
        return len(self.label)

    def __repr__(self) -> str:
        kind = "synthetic corpus" if self.synthetic else "corpus"
        return f"<{kind} {self.name!r}: {len(self)} utterances, {len(self.classes)} classes, {len(self.folds)} folds>"

    @property
    def title(self) -> str:
        """The name for headings of figures and tables; a synthetic corpus always says what it is."""
        return f"{self.name} corpus (synthetic)" if self.synthetic else f"{self.name} corpus"

    def features(self, modality: str, rows: Sequence[int], fold: int | None = None, steps: int | None = None):
        """One modality of some utterances.

        Args:
            modality: "text", "video" or "audio".
            rows: [B] rows of the corpus.
            fold: if given, audio is standardised with the statistics of this fold's train part (valid frames only);
                padding stays zero.
            steps: return only so many time steps.

        Returns:
            [B, steps or T, D] float32, a fresh array.
        """
        rows = np.asarray(rows)
        if modality == "text" and "tokens" in self.arrays:
            return self.arrays["embedding"][self.arrays["tokens"][rows, :steps]]
        x = self.arrays[modality][rows, :steps]
        if modality == "audio" and fold is not None:
            mean, std = self.arrays["audio_scale"][list(self.folds).index(fold)]
            x -= mean
            x /= std
            x[np.arange(x.shape[1]) >= self.lengths["audio"][rows, None]] = 0
        return x

    def transcript(self, row: int) -> list[str]:
        """The words on the text axis of one utterance; token numbers where the corpus has no dictionary."""
        n = self.lengths["text"][row]
        if "tokens" not in self.arrays:
            return [f"[{i}]" for i in range(n)]
        tokens = self.arrays["tokens"][row, :n]
        return [self.words[i] or f"#{i}" if self.words else f"#{i}" for i in tokens]

    def report(self) -> dict[str, pd.DataFrame]:
        """What is in the corpus, as tables: "classes", "folds", "lengths" (time steps) and "text"."""
        counts = np.bincount(self.label, minlength=len(self.classes))
        classes = pd.DataFrame({"class": self.classes, "utterances": counts, "share": counts / counts.sum()})
        folds = pd.DataFrame(
            [
                {"fold": k, **{part: len(rows) for part, rows in fold._asdict().items()}, "no video": self.dropped[k]}
                for k, fold in self.folds.items()
            ]
        )
        rows = []
        for m, n in self.lengths.items():
            full = getattr(self.sizes, m).length
            q = dict(zip(("5%", "median", "95%"), np.quantile(n, [0.05, 0.5, 0.95]), strict=True))
            rows.append({"modality": m, "features": getattr(self.sizes, m).dim, "steps": full, **q})
            rows[-1]["share of padding"] = 1 - n.mean() / full
            rows[-1]["utterances that fill it"] = int((n == full).sum())
        return {"classes": classes, "folds": folds, "lengths": pd.DataFrame(rows), "text": self._text_report()}

    def _text_report(self) -> pd.DataFrame:
        if "tokens" not in self.arrays:
            return pd.DataFrame([{"what": "text is stored as vectors, without token ids", "value": len(self)}])
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
            raise ValueError(f"{self!r} holds text as vectors, without token ids")
        valid = np.arange(self.sizes.text.length) < self.lengths["text"][:, None]
        counts = np.bincount(np.asarray(self.arrays["tokens"])[valid], minlength=len(self.arrays["embedding"]))
        return counts, np.abs(self.arrays["embedding"]).sum(1) > 0


def open_store(path: str | Path) -> Corpus:
    """Open a store in place. Reads the small arrays and maps the large ones.

    Raises:
        CorpusError: if the folder is no store, or a file is missing, truncated, or of another shape than noted.
    """
    path = Path(path).resolve()
    manifest_file = path / "corpus.json"
    try:
        manifest = json.loads(manifest_file.read_text(encoding="utf-8"))
        version = manifest["format"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise CorpusError(manifest_file, "the description of a store", f"{type(error).__name__}: {error}") from None
    if version != FORMAT:
        raise CorpusError(manifest_file, f"store format {FORMAT}", f"format {version}; import the corpus again")
    if missing := {*FIELDS, "sizes", "arrays", "folds", "dropped"} - manifest.keys():
        raise CorpusError(manifest_file, "the description of a store", f"one without {', '.join(sorted(missing))}")
    arrays = {}
    for name, noted in manifest["arrays"].items():
        array = load_array(path / f"{name}.npy")
        if [list(array.shape), str(array.dtype)] != noted:
            raise CorpusError(path / f"{name}.npy", f"{noted[1]} {noted[0]}", f"{array.dtype} {list(array.shape)}")
        arrays[name] = array
    if "embedding" in arrays:
        arrays["embedding"] = np.asarray(arrays["embedding"])
    folds = {}
    try:
        with open(path / "folds.npz", "rb") as f, np.load(f, allow_pickle=False) as z:
            for k in manifest["folds"]:
                folds[k] = Fold(*(z[f"{k}_{part}"] for part in PARTS))
    except Exception as error:  # zipfile and numpy have many
        raise CorpusError(path / "folds.npz", "the rows of each fold", f"{type(error).__name__}: {error}") from None
    sizes = {m: Size(*manifest["sizes"][m]) for m in MODALITIES.values()}
    return Corpus(
        path=path,
        sizes=Sizes(**sizes, classes=len(manifest["classes"])),
        label=np.asarray(arrays.pop("label")),
        lengths={m: np.asarray(arrays.pop(f"length_{m}")) for m in MODALITIES.values()},
        folds=folds,
        dropped={int(k): n for k, n in manifest["dropped"].items()},
        arrays=arrays,
        **{k: manifest[k] for k in FIELDS},
    )


def load_array(file: Path) -> np.ndarray:
    """Map one .npy file; CorpusError if it is missing, truncated, or holds Python objects."""
    if not file.is_file():
        raise CorpusError(file, "a file", "none")
    try:
        return np.lib.format.open_memmap(file, mode="r")  # unlike np.load, never reads a zip or a pickle
    except Exception as error:  # a broken header may raise anything
        raise CorpusError(file, "a whole .npy array of numbers", f"{type(error).__name__}: {error}") from None
