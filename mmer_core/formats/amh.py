"""The AMH fold layout (github david-yoon/attentive-modality-hopping-for-SER), read into a store.

An AMH tree holds every utterance once per fold, so IEMOCAP takes 33 GB; the store keeps each utterance once. The tree
is gone through twice: first every row is checked and its content hashed, then the first copy of each is taken over.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path

import numpy as np

from mmer_core.corpus import PARTS, Corpus, Fold, load_array, open_store
from mmer_core.errors import CorpusError
from mmer_core.formats.dictionary import read_dictionary
from mmer_core.store import CHUNK, digest, finish_store, new_store

FILES = {"audio": "audio_mfcc", "audio_n": "audio_seqN", "video": "video", "video_n": "video_seqN", "label": "label"}
MOST_CLASSES = 1000  # a label beyond is a broken file, not a class


def import_amh(tree: Path, store: Path) -> Corpus:
    """Read an AMH fold tree into a new store (rules: see data/README.md)."""
    found = [(int(p.name[4:]), p) for p in tree.glob("fold*") if re.fullmatch(r"fold\d+", p.name) and p.is_dir()]
    folders = dict(sorted(found))
    if not folders:
        raise CorpusError(tree, "a store (corpus.json) or AMH fold folders (fold01, fold02, ..)", "neither")
    if len(folders) < len(found):
        raise CorpusError(tree, "one folder for each fold", f"{', '.join(sorted(p.name for _, p in found))}")
    with new_store(store) as scratch:
        _Import(tree, folders).write(scratch)
    return open_store(store)


class _Import:
    """One pass over a tree: `parts` are its checked files, `first` tells where each utterance was first seen."""

    def __init__(self, tree: Path, folders: dict[int, Path]):
        self.tree, self.folders = tree, folders
        self.tally: Counter[str] = Counter()  # what is to be told
        self.embedding = self._embedding()
        self.parts = {(k, part): _Part(folder, part, self.embedding) for k, folder in folders.items() for part in PARTS}
        self._same_shapes()
        if "text" in next(iter(self.parts.values())).arrays:
            self.embedding = None  # ready text: only the vector of padding was needed
        self.first: dict[bytes, tuple[int, str, int]] = {}  # digest -> fold, part, row of the source
        self.position: dict[bytes, int] = {}  # digest -> row of the corpus
        self.blurred: dict[int, Counter[bytes]] = {k: Counter() for k in folders}  # words, label and lengths only
        self.copies: dict[bytes, set[bytes]] = {}  # blurred digest -> digests
        rows: dict[tuple[int, str], list[int]] = {}
        for (k, name), part in self.parts.items():
            rows[k, name] = self._scan(k, name, part)
        self.folds = {k: Fold(*(np.array(rows[k, name], np.int64) for name in PARTS)) for k in folders}

    def _embedding(self) -> np.ndarray | None:
        """The one vocabulary of all folds, or None where every part has ready text vectors."""
        files = {k: folder / "W_embedding.npy" for k, folder in self.folders.items()}
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

    def _same_shapes(self) -> None:
        first = next(iter(self.parts.values()))
        for part in self.parts.values():
            for kind, array in part.arrays.items():
                if kind not in first.arrays:
                    raise CorpusError(
                        part.folder,
                        f"{first.names['tokens' if kind == 'text' else 'text']} as in {first.folder}",
                        part.names[kind],
                    )
                if array.shape[1:] != (want := first.arrays[kind].shape[1:]):
                    raise CorpusError(
                        part.file(kind), f"{list(want)} after N, as in {first.file(kind)}", f"{list(array.shape)}"
                    )

    def _scan(self, k: int, name: str, part: _Part) -> list[int]:
        rows = []
        for i, (content, gist) in part.digests(self.tally):
            if content not in self.first:
                self.position[content] = len(self.first)
                self.first[content] = (k, name, i)
            rows.append(self.position[content])
            self.blurred[k][gist] += 1
            self.copies.setdefault(gist, set()).add(content)
        self.tally["same utterance twice in one part of a fold"] += len(rows) - len(set(rows))
        return rows

    def write(self, scratch: Path) -> None:
        """Take over the first copy of each utterance."""
        some = next(iter(self.parts.values())).arrays
        n = len(self.first)
        where = list(self.first.values())  # in the order of the parts, so that each file is written from front to end
        for kind in ("text" if self.embedding is None else "tokens", "video", "audio"):
            dtype = np.dtype(np.int32 if kind == "tokens" else np.float32)
            with open(scratch / f"{kind}.npy", "wb") as f:
                head = {"descr": dtype.str, "fortran_order": False, "shape": (n, *some[kind].shape[1:])}
                np.lib.format.write_array_header_1_0(f, head)
                for key, part in self.parts.items():
                    rows = [i for *here, i in where if tuple(here) == key]
                    for start in range(0, len(rows), CHUNK):
                        f.write(part.arrays[kind][rows[start : start + CHUNK]].astype(dtype).tobytes())
        for name in ("label", "length_text", "length_video", "length_audio"):
            np.save(
                scratch / f"{name}.npy", np.array([getattr(self.parts[k, p], name)[i] for k, p, i in where], np.int64)
            )
        if self.embedding is not None:
            np.save(scratch / "embedding.npy", self.embedding)
        classes, named = self._classes()
        vocabulary = [] if self.embedding is None else [digest(self.embedding)]
        finish_store(
            scratch,
            [*self.first, *vocabulary],
            self.folds,
            name=self.tree.name,
            source=str(self.tree),
            synthetic=False,
            classes=classes,
            ids=[f"{self.folders[k].name}/{p}/{i}" for k, p, i in where],
            words=self._words(),
            findings=self._findings(named),
            dropped={k: sum(self.parts[k, part].dropped for part in PARTS) for k in self.folders},
        )

    def _classes(self) -> tuple[list[str], bool]:
        n = 1 + max((int(part.label.max()) for part in self.parts.values() if len(part.label)), default=0)
        known = None
        for file in [*(folder / "classes.json" for folder in self.folders.values()), self.tree / "classes.json"]:
            if file.is_file():
                try:
                    names = json.loads(file.read_text(encoding="utf-8"))
                    good = isinstance(names, list) and all(isinstance(x, str) for x in names) and len(names) >= n
                except (OSError, ValueError, RecursionError):
                    names, good = "something else", False
                if not good or len(set(names)) < len(names):
                    raise CorpusError(file, f"a list of {n} or more different class names", f"{names!r}"[:200])
                if known and known != names[:n]:
                    raise CorpusError(file, f"the class names of the other folds, {known}", f"{names[:n]}")
                known = names[:n]
        return known or [f"class {i}" for i in range(n)], known is not None

    def _words(self) -> list[str] | None:
        known = None
        for file in (folder / "dic.pkl" for folder in self.folders.values()):
            if file.is_file() and self.embedding is not None:
                words = [""] * len(self.embedding)
                for word, i in read_dictionary(file).items():
                    if not 0 <= i < len(words):
                        want = f"word ids below {len(words)}, the rows of W_embedding.npy"
                        raise CorpusError(file, want, f"{word!r}: {i}")
                    words[i] = word
                if known and known != words:
                    raise CorpusError(file, "the words of the other folds", "others")
                known = words
        return known

    def _findings(self, named: bool) -> list[str]:
        """What a reader of results has to know about these files, in sentences."""
        n = len(self.first)
        found = [f"{n} different utterances in {len(self.folders)} folds."]
        found += [f"{count} rows (over all folds): {what}." for what, count in self.tally.items() if count]
        if not named:
            found.append("The files do not name the classes (no classes.json); they are called class 0, class 1, ..")
        scaled = sum(
            max(0, len(copies) - max(c[gist] for c in self.blurred.values())) for gist, copies in self.copies.items()
        )
        if scaled:
            found.append(
                f"{scaled} utterances have the words, label and lengths of one in another fold but other numbers "
                "(folds scaled by themselves?): each fold keeps its own copy; whether test parts overlap is unknown."
            )
        tested = Counter(row for fold in self.folds.values() for row in set(fold.test.tolist()))
        twice = sum(count > 1 for count in tested.values())
        if twice:
            found.append(f"{twice} utterances stand in the test parts of more than one fold.")
        elif not scaled:
            found.append("No two test parts share an utterance.")
        twins: dict[bytes, set[int]] = {}
        for content, (k, p, i) in self.first.items():
            twins.setdefault(self.parts[k, p].unlabelled[i], set()).add(self.position[content])
        if contrary := sum(len(rows) > 1 for rows in twins.values()):
            found.append(f"{contrary} utterances occur with the same content and different labels.")
        found.append(
            "The files name neither speakers nor dialogues, so leakage between the parts of a fold cannot be excluded."
        )
        return found


class _Part:
    """The arrays of one part of one fold, mapped and checked as far as that goes without reading them whole."""

    def __init__(self, folder: Path, name: str, embedding: np.ndarray | None):
        self.folder, self.name = folder, name
        self.names = dict(FILES)
        tokens, text = (folder / f"{name}_{file}.npy" for file in ("nlp_trans", "text"))
        has_tokens = embedding is not None and (tokens.is_file() or not text.is_file())
        self.names["tokens" if has_tokens else "text"] = "nlp_trans" if has_tokens else "text"
        self.arrays = {kind: load_array(self.file(kind)) for kind in self.names}
        self.label = self._whole("label", 1, "iu")
        n = len(self.label)
        if n and not 0 <= self.label.min() <= self.label.max() < MOST_CLASSES:
            want = f"labels in 0..{MOST_CLASSES - 1}"
            raise CorpusError(self.file("label"), want, f"{self.label.min()}..{self.label.max()}")
        for kind in ("audio", "video", *(() if has_tokens else ("text",))):
            self._expect(kind, n, 3, "f")
        self.length_audio, self.clipped_audio = self._length("audio_n", "audio")
        self.length_video, self.clipped_video = self._length("video_n", "video")
        self.unlabelled: dict[int, bytes] = {}
        if has_tokens:
            tokens = self._whole("tokens", 2, "iu")
            if len(tokens) and (tokens.min() < 0 or tokens.max() >= len(embedding)):
                want = f"token ids in 0..{len(embedding) - 1}, the rows of W_embedding.npy"
                raise CorpusError(self.file("tokens"), want, f"{tokens.min()}..{tokens.max()}")
            used = tokens != 0
        else:
            dim = self.arrays["text"].shape[2]
            if embedding is not None and dim != embedding.shape[1]:
                raise CorpusError(self.file("text"), f"{embedding.shape[1]} features as in W_embedding.npy", f"{dim}")
            pad = 0 if embedding is None else embedding[0]
            used = (
                np.concatenate([(x != pad).any(-1) for x in self._chunks("text", np.arange(n))])
                if n
                else np.zeros((0, 1))
            )
        steps = used.shape[1]
        self.length_text = np.where(used.any(1), steps - np.argmax(used[:, ::-1], 1), 0)

    def file(self, kind: str) -> Path:
        return self.folder / f"{self.name}_{self.names[kind]}.npy"

    def _expect(self, kind: str, n: int, ndim: int, dtype: str) -> np.ndarray:
        array, numbers = self.arrays[kind], {"iu": "whole numbers", "f": "floats"}[dtype]
        if array.ndim != ndim or array.dtype.kind not in dtype or len(array) != n:
            shape = ", ".join([str(n), "T", "D"][:ndim])
            raise CorpusError(
                self.file(kind), f"{numbers} [{shape}] (N as in the labels)", f"{array.dtype} {list(array.shape)}"
            )
        if 0 in array.shape[1:]:
            raise CorpusError(self.file(kind), "at least one time step and feature", f"{list(array.shape)}")
        return array

    def _whole(self, kind: str, ndim: int, dtype: str) -> np.ndarray:
        n = len(self.arrays["label"]) if self.arrays["label"].ndim else 0
        return np.asarray(self._expect(kind, n, ndim, dtype), np.int64)

    def _length(self, kind: str, of: str) -> tuple[np.ndarray, np.ndarray]:
        length, longest = self._whole(kind, 1, "iu"), self.arrays[of].shape[1]
        if len(length) and length.min() < 0:
            raise CorpusError(self.file(kind), "numbers of frames from 0 on", f"{length.min()}")
        return np.minimum(length, longest), length > longest

    def _chunks(self, kind: str, rows: np.ndarray):
        for start in range(0, len(rows), CHUNK):
            x = np.asarray(self.arrays[kind][rows[start : start + CHUNK]], np.float32)
            if not np.isfinite(x).all():
                bad = rows[start + int(np.argwhere(~np.isfinite(x))[0][0])]
                raise CorpusError(self.file(kind), "finite numbers", f"NaN or infinity in row {bad}")
            yield x

    def digests(self, tally: Counter[str]):
        """(row, (digest of the whole utterance, digest of its words, label and lengths)) of each row with video.

        Settles the lengths as it goes: a text of padding only is one pad token, audio without a frame one frame.
        """
        keep = np.flatnonzero(self.length_video > 0)
        self.dropped = len(self.label) - len(keep)
        tally["dropped, since they have no video"] += self.dropped
        for what in ("audio", "video"):
            tally[f"{what} length beyond the array, cut to it"] += int(getattr(self, f"clipped_{what}")[keep].sum())
        tally["text is padding only, taken as one pad token"] += int((self.length_text[keep] == 0).sum())
        tally["audio length 0, taken as one frame"] += int((self.length_audio[keep] == 0).sum())
        self.length_text, self.length_audio = np.maximum(self.length_text, 1), np.maximum(self.length_audio, 1)
        numbers = np.stack([self.label, self.length_text, self.length_video, self.length_audio], 1)
        words = "tokens" if "tokens" in self.arrays else "text"
        row = iter(keep.tolist())
        text = (np.asarray(self.arrays[words][keep], np.int64)[s : s + CHUNK] for s in range(0, len(keep), CHUNK))
        for t, v, a in zip(
            text if words == "tokens" else self._chunks("text", keep),
            self._chunks("video", keep),
            self._chunks("audio", keep),
            strict=True,
        ):
            for x_t, x_v, x_a in zip(t, v, a, strict=True):
                i = next(row)
                self.unlabelled[i] = digest(x_t, x_v, x_a, numbers[i, 1:])
                yield i, (digest(x_t, x_v, x_a, numbers[i]), digest(x_t, numbers[i]))
