"""Labels: sets that the field uses, a mapping of one's own, or edges for scores; applied when a corpus is opened."""

import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TypeAlias

import numpy as np
import pandas as pd

from mmer_core.corpus import Corpus
from mmer_core.errors import CorpusError, MmerError
from mmer_core.views import with_classes

_SETS = pd.read_csv(Path(__file__).with_name("labelsets.csv"))
SETS = tuple(_SETS["set"].unique())  # published counts: AMH's README, EmoBox, and the conversation papers (iemocap6)
Classes: TypeAlias = str | Mapping[str, str] | Sequence[float]


def relabelled(corpus: Corpus, classes: Classes) -> Corpus:
    """The corpus with other classes; utterances of none of them are left out, which its findings tell.

    Args:
        classes: "iemocap4" (happy and excited are one), "iemocap6" or "iemocap7"; {old name: new name}; or, where the
            source has scores such as sentiment, the edges between classes: [-0.5, 0.5] makes three.

    MmerError for an unknown set, a class that the corpus does not have, or edges where there are no scores.
    """
    if isinstance(classes, str):
        return _named_set(corpus, classes)
    if isinstance(classes, Mapping):
        return _mapped(corpus, {str(old): str(new) for old, new in classes.items()})
    try:
        edges = [float(edge) for edge in classes]
    except (TypeError, ValueError, OverflowError):
        raise MmerError(f"classes: edges are numbers that rise, such as [-0.5, 0.5]; got {classes!r}"[:300]) from None
    return _binned(corpus, edges)


def _named_set(corpus: Corpus, name: str) -> Corpus:
    if name not in SETS:
        raise MmerError(f"classes: one of {', '.join(SETS)}, a table of old and new names, or edges; got {name!r}")
    rows = _SETS[_SETS["set"] == name]
    new = {old: row["class"] for _, row in rows.iterrows() for old in row["holds"].split()}
    published = dict(zip(rows["class"], rows["published"], strict=True))
    mapping = {old: new[old.casefold()] for old in corpus.classes if old.casefold() in new}
    if missing := published.keys() - set(mapping.values()):
        raise MmerError(f"{name} needs {', '.join(published)}; {corpus!r} has no {', '.join(sorted(missing))}")
    mapped = _mapped(corpus, mapping, list(published), f"{corpus.name}-{name}")
    counts = dict(zip(mapped.classes, np.bincount(mapped.label, minlength=len(published)).tolist(), strict=True))
    differs = [f"{k} {counts[k]} instead of {n}" for k, n in published.items() if counts[k] != n]
    told = f"differ from the published ones of IEMOCAP: {', '.join(differs)}" if differs else "are the published ones"
    mapped.findings.append(f"The counts of {name} ({len(mapped)} utterances) {told}.")
    return mapped


def _mapped(corpus: Corpus, mapping: Mapping[str, str], order: Sequence[str] = (), name: str | None = None) -> Corpus:
    if unknown := mapping.keys() - set(corpus.classes):
        raise MmerError(f"classes: {sorted(unknown)} are none of {corpus!r}; it has {', '.join(corpus.classes)}")
    order = list(order or dict.fromkeys(mapping.values()))
    if len(order) < 2:
        raise MmerError(f"classes: two or more are needed; got {order}")
    new = np.array([order.index(mapping[old]) if old in mapping else -1 for old in corpus.classes])
    label = new[corpus.label]
    gone = np.bincount(corpus.label[label < 0], minlength=len(corpus.classes))
    left = [f"{corpus.classes[k]} {n}" for k, n in enumerate(gone.tolist()) if n]
    told = [f"Left out, as the chosen classes have no place for them: {', '.join(left)}."] if left else []
    return with_classes(corpus, label, order, name or corpus.name, told)


def _binned(corpus: Corpus, edges: Sequence[float]) -> Corpus:
    if corpus.scores is None:
        raise MmerError(f"classes: edges divide scores, and {corpus!r} has none; give a table of old and new names")
    if not edges or not np.isfinite(edges).all() or any(a >= b for a, b in pairwise(edges)):
        raise MmerError(f"classes: edges are numbers that rise, such as [-0.5, 0.5]; got {list(edges)}")
    label = np.digitize(corpus.scores, edges)
    names = [f"below {edges[0]:g}", *(f"{a:g} to {b:g}" for a, b in pairwise(edges)), f"{edges[-1]:g} or more"]
    counts = ", ".join(f"{name}: {n}" for name, n in zip(names, np.bincount(label, minlength=len(names)), strict=True))
    return with_classes(corpus, label, names, corpus.name, [f"Classes by edges of the score: {counts}."])


def class_of_rows(file: Path, rows: list[dict[str, str]], classes: list[str] | None) -> tuple[list[str], np.ndarray]:
    """Names of the classes, and the label of each row: by name, or where corpus.toml names them also by number."""
    given = [row["label"] for row in rows]
    numbers = all(re.fullmatch(r"\d{1,9}", x) for x in given)
    names = classes or sorted(set(given), key=(lambda x: (int(x), x)) if numbers else None)
    if not classes and (score := next((x for x in given if re.fullmatch(r"-?\d*\.\d+|-\d+", x)), None)):
        raise CorpusError(file, "names, or whole numbers from 0, of classes as labels", f"{score}; a score is no class")
    for row in rows:
        label = row["label"]
        if label not in names and not (classes and numbers and int(label) < len(names)):
            raise CorpusError(f"{file} line {row['line']}", f"a label of {', '.join(names)}", repr(label))
    if len(names) < 2:
        raise CorpusError(file, "labels of two classes or more", f"{names}")
    return names, np.array([names.index(x) if x in names else int(x) for x in given])
