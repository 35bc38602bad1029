"""The AMH fold layout (github david-yoon/attentive-modality-hopping-for-SER), read into a store.

An AMH tree holds every utterance once per fold, so IEMOCAP takes 33 GB; the store keeps each utterance once. Heads and
small files of all folds are checked first; then the large ones are read once, a few rows at a time.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from mmer_core.arrays import check_range, load_array, read_rows
from mmer_core.corpus import CHUNK, PARTS
from mmer_core.errors import CorpusError
from mmer_core.formats.pickles import read_dictionary
from mmer_core.store import BATCH, DTYPES, Source, Utterance
from mmer_core.texts import read_json

FILES = {  # kind: name of its files, number of axes, dtype
    "label": ("label", 1, "iu"),
    "audio": ("audio_mfcc", 3, "f"),
    "audio_n": ("audio_seqN", 1, "iu"),
    "video": ("video", 3, "f"),
    "video_n": ("video_seqN", 1, "iu"),
    "tokens": ("nlp_trans", 2, "iu"),
    "text": ("text", 3, "f"),
}
UNNAMED = "The files do not name the classes (no classes.json); they are called class 0, class 1, .."
LEAKS = "The files name neither speakers nor dialogues, so leakage between the parts of a fold cannot be excluded."
LEFT = "Text is padded on the left: it is rolled to the start."
MOST_CLASSES = 1000  # a label beyond is a broken file, not a class


class Tree(Source):
    """All folds of a tree (rules: see data/README.md), mapped, and checked without reading the large files."""

    def __init__(self, tree: Path):
        folders = _fold_folders(tree)
        self.folds = list(folders)
        vocabulary = _vocabulary(folders)
        self.parts = {(k, part): _Part(folders[k], part, vocabulary) for k in folders for part in PARTS}
        first, *others = self.parts.values()
        for part in others:
            if part.words != first.words:
                raise CorpusError(part.folder, f"{FILES[first.words][0]} as in {first.folder}", FILES[part.words][0])
            for kind, array in part.arrays.items():
                if array.shape[1:] != (sizes := first.arrays[kind].shape[1:]):
                    expected = f"{list(sizes)} after N, as in {first.files[kind]}"
                    raise CorpusError(part.files[kind], expected, f"{list(array.shape)}")
        self.embedding = vocabulary if first.words == "tokens" else None
        self.padding = vocabulary[0] if first.words == "text" and vocabulary is not None else 0
        some = [self._used(part.arrays[first.words][:CHUNK]) for part in self.parts.values()]
        self.left = sum(int(x[:, 0].sum()) - int(x[:, -1].sum()) for x in some if x.size) < 0
        n = 1 + max(int(part.arrays["label"].max(initial=0)) for part in self.parts.values())
        self.names = _class_names(tree, folders, n)
        classes = self.names or [f"class {i}" for i in range(n)]
        words = None if self.embedding is None else _words(folders, len(self.embedding))
        self.facts = {"name": tree.name, "source": str(tree), "synthetic": False, "classes": classes, "words": words}

    def batches(self) -> Iterator[Iterator[Utterance]]:
        for place, part in self.parts.items():
            for start in range(0, len(part.arrays["label"]), BATCH):
                yield self._batch(place, part, start)

    def _batch(self, place: tuple[int, str], part: "_Part", start: int) -> Iterator[Utterance]:
        stop = start + BATCH
        label, audio, video = (part.arrays[kind][start:stop].tolist() for kind in ("label", "audio_n", "video_n"))
        some = {m: read_rows(part.arrays[m], start, stop) for m in (part.words, "video", "audio")}
        with np.errstate(over="ignore"):  # infinity is refused where it is written
            x = {m: np.asarray(rows, DTYPES[m]) for m, rows in some.items()}
        used = self._used(x[part.words])
        if self.left:
            steps = used.shape[1] - used.argmax(1)
            at = (np.arange(used.shape[1]) - steps[:, None]) % used.shape[1]  # [B, T]
            x[part.words] = x[part.words][np.arange(len(at))[:, None], at]
            used = used.any(1, keepdims=True) * (np.arange(used.shape[1]) < steps[:, None])
        steps = (used * np.arange(1, used.shape[1] + 1)).max(1)  # up to the last one that is no padding
        for row, text in enumerate(steps):
            lengths = {"text": text, "video": video[row], "audio": audio[row]}
            arrays = {kind: features[row] for kind, features in x.items()}
            name = f"{part.folder.name}/{place[1]}/{start + row}"
            yield Utterance(name, [place], label[row], lengths, arrays, part.files, start + row)

    def _used(self, text: np.ndarray) -> np.ndarray:
        """Which steps of texts [B, T] or [B, T, D] are no padding, [B, T]."""
        used = text != self.padding
        return used if used.ndim == 2 else used.any(2)

    @staticmethod
    def watched(tree: Path) -> list[Path]:
        """The files of a tree that a store depends on."""
        names = ["W_embedding.npy", "dic.pkl", "classes.json"]
        names += [f"{part}_{stem}.npy" for part in PARTS for stem, _, _ in FILES.values()]
        return [tree / "classes.json", *(folder / name for folder in tree.glob("fold*") for name in names)]

    def findings(self, counts: list[str], overlaps: list[str]) -> list[str]:
        counts = [*counts, LEFT] if self.left else counts
        return [*counts, *([] if self.names else [UNNAMED]), *overlaps, LEAKS]


class _Part:
    """One part of one fold: `words` is the kind of its text, tokens or ready vectors."""

    def __init__(self, folder: Path, name: str, vocabulary: np.ndarray | None):
        self.folder = folder
        self.files = {kind: folder / f"{name}_{stem}.npy" for kind, (stem, _, _) in FILES.items()}
        has_tokens = self.files["tokens"].is_file() or not self.files["text"].is_file()
        self.words, other = ("tokens", "text") if has_tokens and vocabulary is not None else ("text", "tokens")
        self.arrays = {kind: load_array(file) for kind, file in self.files.items() if kind != other}
        n = self.arrays["label"].shape[0] if self.arrays["label"].ndim else 0
        for kind, array in self.arrays.items():
            _, axes, dtype = FILES[kind]
            if array.ndim != axes or array.dtype.kind not in dtype or len(array) != n:
                shape = ", ".join([str(n), "T", "D"][:axes])
                expected = f"{'floats' if dtype == 'f' else 'whole numbers'} [{shape}] (N as in the labels)"
                raise CorpusError(self.files[kind], expected, f"{array.dtype} {list(array.shape)}")
            if 0 in array.shape[1:]:
                raise CorpusError(self.files[kind], "at least one time step and feature", f"{list(array.shape)}")
        check_range(self.files["label"], "labels", self.arrays["label"], 0, MOST_CLASSES - 1)
        for kind in ("audio_n", "video_n"):
            if (shortest := self.arrays[kind].min(initial=0)) < 0:
                raise CorpusError(self.files[kind], "numbers of frames from 0 on", f"{shortest}")
        if vocabulary is not None and self.words == "tokens":
            rows = ", the rows of W_embedding.npy"
            check_range(self.files["tokens"], "token ids", self.arrays["tokens"], 0, len(vocabulary) - 1, rows)
        elif vocabulary is not None and (dim := self.arrays["text"].shape[2]) != vocabulary.shape[1]:
            raise CorpusError(self.files["text"], f"{vocabulary.shape[1]} features as in W_embedding.npy", f"{dim}")


def _fold_folders(tree: Path) -> dict[int, Path]:
    folders = [(int(p.name[4:]), p) for p in tree.glob("fold*") if re.fullmatch(r"fold\d+", p.name)]
    if files := [p for _, p in folders if not p.is_dir()]:
        raise CorpusError(files[0], "the folder of a fold", "a file")
    if len(dict(folders)) < len(folders):
        raise CorpusError(tree, "one folder for each fold", ", ".join(sorted(p.name for _, p in folders)))
    return dict(sorted(folders))


def _vocabulary(folders: dict[int, Path]) -> np.ndarray | None:
    """The vectors of the words, the same in all folds; None where every part has to have ready text vectors."""
    files = {k: folder / "W_embedding.npy" for k, folder in folders.items()}
    if not any(file.is_file() for file in files.values()):
        return None
    loaded = {k: load_array(file) for k, file in files.items()}
    first = next(iter(loaded))
    for k, w in loaded.items():
        if w.ndim != 2 or w.dtype.kind != "f" or not w.size or not np.isfinite(w).all():
            raise CorpusError(files[k], "finite floats [vocabulary, D]", f"{w.dtype} {list(w.shape)} or NaN in it")
        if not np.array_equal(w, loaded[first]):
            raise CorpusError(files[k], f"the vocabulary of fold {first}", "another one")
    return np.asarray(loaded[first], np.float32)


def _class_names(tree: Path, folders: dict[int, Path], n: int) -> list[str] | None:
    """The names of n classes, the same wherever there are any; None if nobody names them."""
    known = None
    for file in [*(folder / "classes.json" for folder in folders.values()), tree / "classes.json"]:
        if file.is_file():
            names = read_json(file, f"a list of {n} or more different class names")
            good = isinstance(names, list) and all(isinstance(x, str) for x in names) and len(names) >= n
            if not good or len(set(names)) < len(names):
                raise CorpusError(file, f"a list of {n} or more different class names", f"{names!r}"[:200])
            if known and known != names[:n]:
                raise CorpusError(file, f"the class names of the other folds, {known}", f"{names[:n]}")
            known = names[:n]
    return known


def _words(folders: dict[int, Path], n: int) -> list[str] | None:
    """The word of each of n token ids, the same in all folds that have a dictionary; None if none has."""
    known = None
    for file in (folder / "dic.pkl" for folder in folders.values()):
        if file.is_file():
            words = [""] * n
            for word, i in read_dictionary(file).items():
                if not 0 <= i < n:
                    raise CorpusError(file, f"word ids below {n}, the rows of W_embedding.npy", f"{word!r}: {i}")
                words[i] = word
            if known and known != words:
                raise CorpusError(file, "the words of the other folds", "others")
            known = words
    return known
