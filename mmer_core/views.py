"""A corpus with other folds or classes than its store: the same arrays, some rows of them, and what is told of that.

A view travels to workers as the path of its store and what differs, so that they need nothing else.
"""

import copyreg
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from mmer_core.arrays import frame_scale, moments
from mmer_core.corpus import PER_ROW, Corpus, Fold, check_folds, open_store


def with_classes(corpus: Corpus, label: np.ndarray, classes: Sequence[str], name: str, told: Iterable[str]) -> Corpus:
    """The corpus with other labels [N] and names of them; -1 leaves an utterance out, of the folds as well."""
    kept = np.flatnonzero(label >= 0)
    new = np.full(len(corpus), -1)
    new[kept] = np.arange(len(kept))
    folds = {k: Fold(*(new[rows][new[rows] >= 0] for rows in fold)) for k, fold in corpus.folds.items()}
    at = kept if corpus.at is None else corpus.at[kept]
    return _view(corpus.path, (at, label[kept], list(classes), folds, name, [*corpus.findings, *told]))


def with_folds(corpus: Corpus, folds: Mapping[int, Fold], told: Iterable[str] = ()) -> Corpus:
    """The corpus with other folds: the rows of each part stand in an order that depends on content alone.

    CorpusError where a part is empty, or two parts of a fold share an utterance.
    """
    rank = np.empty(len(corpus), np.int64)
    rank[canonical(corpus)] = np.arange(len(corpus))
    parts = {int(k): Fold(*map(np.asarray, fold)) for k, fold in folds.items()}
    check_folds(corpus.title, parts, len(corpus), corpus.ids)
    told = [*told, *about_tests(dict(sorted(parts.items())))]
    ordered = {
        k: Fold(*(rows[np.argsort(rank[rows])].astype(np.int64) for rows in fold)) for k, fold in sorted(parts.items())
    }
    at = np.arange(len(corpus)) if corpus.at is None else corpus.at
    found = [sentence for sentence in corpus.findings if "test parts" not in sentence]  # of other folds
    return _view(corpus.path, (at, corpus.label, corpus.classes, ordered, corpus.name, [*found, *told]))


def about_tests(folds: Mapping[int, Fold]) -> list[str]:
    """Whether test parts share utterances or their numbers leave gaps, as findings; nothing of one fold alone."""
    tests = [np.unique(fold.test) for fold in folds.values()]
    twice = int((np.unique(np.concatenate(tests), return_counts=True)[1] > 1).sum()) if tests else 0
    gaps = sorted(set(range(min(folds), max(folds))) - set(folds))[:9] if folds else []
    missing = f"There are no test parts {', '.join(map(str, gaps))}: folds are {', '.join(map(str, folds))}."
    told = [missing] if gaps else []
    if twice:
        return [f"{twice} utterances stand in the test parts of more than one fold.", *told]
    return ["No two test parts share an utterance.", *told] if len(tests) > 1 else []


def canonical(corpus: Corpus) -> np.ndarray:
    """The rows of the corpus in the order of their content: the same utterances in the same order in every format."""
    return np.lexsort([corpus.label, *corpus.digests().T[::-1]])


def _view(path: str | Path, view: tuple) -> Corpus:
    corpus = open_store(path)
    at, label, classes, folds, name, findings = view
    mine = {field: [known[i] for i in at] for field in PER_ROW if (known := getattr(corpus, field)) is not None}
    lengths = {m: n[at] for m, n in corpus.lengths.items()}
    arrays = dict(corpus.arrays)
    if "audio" in arrays and folds:
        each = _moments(corpus)[at]
        with np.errstate(invalid="ignore"):  # a part that chosen classes left empty: it is refused, or gets other folds
            scales = [frame_scale(each[fold.train], lengths["audio"][fold.train]) for fold in folds.values()]
        arrays["audio_scale"] = np.stack(scales)
    rows = [x.astype("<i8").tobytes() for x in (at, label, *(part for fold in folds.values() for part in fold))]
    whole = b"".join([corpus.fingerprint.encode(), str(list(folds)).encode(), *rows])
    return replace(
        corpus,
        name=name,
        fingerprint=hashlib.blake2b(whole, digest_size=8).hexdigest(),
        classes=classes,
        sizes=replace(corpus.sizes, classes=len(classes)),
        folds=folds,
        findings=findings,
        dropped=dict.fromkeys(folds, 0) | {k: n for k, n in corpus.dropped.items() if k in folds},
        arrays=arrays,
        label=label,
        lengths=lengths,
        view=view,
        at=at,
        **mine,  # type: ignore[arg-type]  # lists, each of a field of them
    )


def _moments(corpus: Corpus) -> np.ndarray:
    """`moments` of the audio of each utterance, [N, 2, D]; a store of before has none, and is read for them."""
    if "moments" in corpus.arrays:
        return np.asarray(corpus.arrays["moments"])
    return np.stack([moments(frames["audio"]) for frames in corpus.valid_frames()])


def _reopened(path: str, fingerprint: str, view: tuple | None) -> Corpus:
    """The corpus in another process; the last one stays open there."""
    if _OPEN.get("fingerprint") != (path, fingerprint):
        _OPEN.update(fingerprint=(path, fingerprint), corpus=_view(path, view) if view else open_store(path))
    return _OPEN["corpus"]


_OPEN: dict = {}
copyreg.pickle(Corpus, lambda corpus: (_reopened, (str(corpus.path), corpus.fingerprint, corpus.view)))
