"""Reading corpora: every known format becomes a store, every store a `Corpus`, with folds and classes as asked for."""

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from mmer_core.corpus import PARTS, Corpus, Fold, check_folds, open_store
from mmer_core.errors import CorpusError, MmerError
from mmer_core.folds import make_folds, partition
from mmer_core.formats.affect import Splits
from mmer_core.formats.amh import Tree
from mmer_core.formats.plain import LABELS, SETTINGS, TABLE, Folder
from mmer_core.labels import Classes, relabelled
from mmer_core.paths import root
from mmer_core.store import Source, write_store
from mmer_core.views import with_folds

KNOWN = "a store (corpus.json), fold01, .. of AMH, a plain folder (utterances.csv), or a pickle of MMSA or MulT (.pkl)"
Folds = str | Path | Mapping


def open_corpus(
    path: str | Path,
    store: str | Path | None = None,
    folds: Folds | None = None,
    classes: Classes | None = None,
    skip: bool = False,
    text: str | None = None,
    video: str | None = None,
    audio: str | None = None,
) -> Corpus:
    """Open a corpus, whatever it is: a store in place, other formats by way of a store (see data/README.md).

    Args:
        path: a store; a folder with fold01, fold02, .. in the AMH layout; a plain folder with utterances.csv; a
            folder of MERBench; a pickle of MMSA or MulT.
        store: where the store of another format is, or is to be, made; data/<name> by default, with ".store" behind if
            the source is there itself. One made from this source before is opened; delete it to import again.
        folds: a partition file (`read_folds`), settings of `make_folds` such as {"k": 5, "by": "speaker"} (without k:
            None), or {fold: Fold}; by default those of the source.
        classes: a set of labels ("iemocap4", ..), {old name: new name}, or edges of scores; see `labels.relabelled`.
        skip: leave out, and tell, what cannot be used: utterances without label or file, or with several labels.
        text, video, audio: the features of a modality in a plain folder, where it has several sets; "none" for none.

    CorpusError names the file, what was expected and what was found. No half-written store is left.
    """
    chosen = {m: name for m, name in {"text": text, "video": video, "audio": audio}.items() if name is not None}
    return adapted(_imported(path, store, skip, chosen), folds, classes)


def adapted(corpus: Corpus, folds: Folds | None, classes: Classes | None) -> Corpus:
    """The corpus with other classes, and with folds of a partition file, made ones, or given ones."""
    if classes is not None:
        corpus = relabelled(corpus, classes)
        if len(np.unique(corpus.label)) < 2:
            raise MmerError(f"classes: utterances of two or more are needed; {corpus!r} has {len(corpus)} of one")
    if folds is None:
        check_folds(corpus.title, corpus.folds, len(corpus), corpus.ids)  # classes may leave a part without any
        return corpus
    if isinstance(folds, (str, Path)):
        return with_folds(corpus, *partition(corpus, Path(folds)))
    if not isinstance(folds, Mapping):
        raise MmerError(f'folds are a file, {{number: (train, dev, test)}}, or such as {{"k": 5}}; got {folds!r}')
    if all(isinstance(k, str) for k in folds):
        if unknown := folds.keys() - {"k", "by", "seed"}:
            raise MmerError(f"folds are made of k, by and seed; got {', '.join(sorted(unknown))}")
        said = ", ".join(f"{name} = {value}" for name, value in folds.items())
        return with_folds(corpus, make_folds(corpus, **{"k": None, **folds}), [f"Folds were made here: {said}."])
    if odd := [k for k, parts in folds.items() if not isinstance(k, (int, np.integer)) or len(parts) != len(PARTS)]:
        raise MmerError(f"folds are given as {{number: (train, dev, test)}}; got {odd[0]!r} with something else")
    return with_folds(corpus, {k: Fold(*parts) for k, parts in folds.items()})


def _imported(path: str | Path, store: str | Path | None, skip: bool, chosen: Mapping[str, str]) -> Corpus:
    try:
        path = Path(path).expanduser().resolve()
        is_store, exists = (path / "corpus.json").is_file(), path.exists()
        store = Path(store).expanduser().resolve() if store else None
        _ = store and store.exists()
    except (RuntimeError, ValueError, OSError) as error:  # a home of nobody, a zero byte, links in a circle
        raise CorpusError(repr(str(path))[:300], "a path, and one for its store", str(error)[:300]) from None
    if is_store:
        if chosen:
            raise CorpusError(path, "the folder that this store was made of, to choose features", "a store")
        return open_store(path)
    options = [f"{m}={name}" for m, name in chosen.items()] + ["skip"] * skip
    source, name = " ".join([str(path), *options]), "-".join([path.stem if path.is_file() else path.name, *options])
    store = store or root() / "data" / name.replace("/", "-")
    if store == path:  # the source itself lies in data/
        store = path.with_name(f"{path.name}.store")
    if not exists:
        raise CorpusError(path, KNOWN, "nothing")
    if (store / "corpus.json").is_file():
        corpus = open_store(store)
        if corpus.source != source:
            raise CorpusError(store, f"the store of {source}", f"one made from {corpus.source}; name another store")
        _check_unchanged(corpus, path, chosen)
        return corpus
    made = _source(path, skip, chosen)
    name = "-".join([made.facts["name"], *options]).replace("/", "-")
    stamp = _stamp(path)
    if SETTINGS in stamp and isinstance(made, Folder):
        stamp[SETTINGS] += [Folder.said(path, chosen)]
    made.facts = {**made.facts, "name": name, "source": source, "stamp": stamp}
    return write_store(made, store)


def _source(path: Path, skip: bool, chosen: Mapping[str, str]) -> Source:
    """The reader of what is there, begun: heads of files are checked."""
    kind = _kind(path)
    if chosen and kind is not Folder:
        raise CorpusError(path, "a plain folder, to choose features in", "another format")
    if kind is Folder:
        return Folder(path, chosen, skip)
    if kind is Splits:
        return Splits(path, skip)
    if kind is Tree:
        return Tree(path)
    raise CorpusError(path, KNOWN, "none of them")


def _kind(path: Path) -> type[Tree] | type[Folder] | type[Splits] | None:
    if path.is_file():
        return Splits if path.suffix in (".pkl", ".pickle", ".p") else None
    if (path / TABLE).exists() or (path / LABELS).exists():
        return Folder
    return Tree if any(re.fullmatch(r"fold\d+", place.name) for place in path.glob("fold*")) else None


def _stamp(path: Path) -> dict[str, list]:
    """Of the files of a source that a store depends on: size in bytes, and when they were changed last, in seconds."""
    kind, base = _kind(path), path if path.is_dir() else path.parent
    there = {f.relative_to(base).as_posix(): f.stat() for f in (kind.watched(path) if kind else []) if f.is_file()}
    return {name: [known.st_size, int(known.st_mtime)] for name, known in sorted(there.items())}


def _check_unchanged(corpus: Corpus, path: Path, chosen: Mapping[str, str]) -> None:
    """CorpusError if the source has another file, or a changed one, since it was imported; it may be gone."""
    if (known := corpus.stamp) is None:
        return  # imported before this was noted
    for name, stamp in _stamp(path).items():
        before = known.get(name, [])
        if before[:2] != stamp and (len(before) < 3 or before[2] != Folder.said(path, chosen)):
            found = f"{'changed' if name in known else 'new'} since then; delete {corpus.path} to import again"
            raise CorpusError(f"{path}: {name}", "the file that was imported, if any", found)
