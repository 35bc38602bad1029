"""The declaration: all that is decided before the runs, checked in one place wherever it was said. Needs no torch.

`read` takes it from a file such as data/study.toml, `Study(...)` from its arguments.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path

import numpy as np

from mmer_core.corpus import Corpus
from mmer_core.demo import make_demo_corpus
from mmer_core.errors import MmerError
from mmer_core.formats import open_corpus
from mmer_core.ledger import Noted
from mmer_core.metrics import METRICS
from mmer_core.paths import root
from mmer_core.protocol import Protocol
from mmer_core.variant import PAPER_VARIANTS, Variant

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Pair = tuple[str, str]  # names of two variants


@dataclass(frozen=True)
class Declaration:
    """What a study is to be. Settings may be given loosely (names, ranges, arrays) and are kept in the form below.

    Raises:
        MmerError: naming the setting, for one of a wrong type or value.
    """

    corpus: str = "demo"  # the built-in synthetic corpus; else a path
    store: str | None = None  # where a corpus in another format is imported to
    variants: tuple[Variant, ...] = tuple(PAPER_VARIANTS.values())
    folds: tuple[int, ...] | None = None  # None: all
    seeds: tuple[int, ...] = tuple(range(1, 11))  # the paper's ten
    primary_metric: str = "accuracy"
    margin: float | None = None
    comparisons: tuple[Pair, ...] | None = None  # None: self- against cross-attention, see `in_question`
    ledger: str | None = None  # None: runs/<corpus>
    protocol: Protocol = field(default_factory=Protocol)
    folder: Path = field(default_factory=Path.cwd)  # where relative paths start; no setting

    def __post_init__(self) -> None:
        for setting, check in _CHECKS.items():
            value = getattr(self, setting)
            if value is not None or setting not in _MAY_BE_NONE:
                object.__setattr__(self, setting, check(setting, value))
        for setting in ("variants", "seeds", "folds"):
            if getattr(self, setting) == ():
                raise MmerError(f"a study needs {setting}")

    def changed(self, **settings: object) -> Declaration:
        """The same with other settings."""
        for setting in settings:
            if setting not in _CHECKS:
                raise MmerError(f"unknown setting {setting!r}; known are {', '.join(_CHECKS)}")
        return replace(self, **settings)  # type: ignore[arg-type]  # checked when it is made

    def open_corpus(self) -> Corpus:
        if self.corpus == "demo":
            return make_demo_corpus(self.folder / "demo")
        return open_corpus(self.folder / self.corpus, self.store and self.folder / self.store)

    def ledger_folder(self, corpus: str) -> Path:
        """Where the runs of the corpus of that name are kept."""
        return self.folder / (self.ledger or f"runs/{corpus}")

    @property
    def pairs(self) -> list[Pair]:
        """The declared comparisons; by default those of the study's variants that put the paper's question."""
        if self.comparisons is not None:
            return list(self.comparisons)
        return [
            (one.name, other.name)
            for modalities in ("tv", "ta", "va", "tva")
            for one in self.variants
            for other in self.variants
            if one.modalities == modalities and one.attention == "self" and in_question(one, other)
        ]

    def exploratory(self, noted: Noted | None, metric: str, pair: Pair | None = None) -> str:
        """Why a verdict by this metric, on this pair, was not declared before the first run; empty if it was.

        Args:
            noted: what the ledger noted before its first run, if anything.
        """
        reasons = []
        if noted is None:
            reasons.append("the ledger does not say what was declared before the runs")
        elif metric != noted.primary_metric:
            reasons.append(f"{metric} is secondary: {noted.primary_metric} was declared before the runs")
        elif self.margin != noted.margin:
            reasons.append(f"the margin was {noted.margin} when the runs began")
        if pair and not _is_declared(pair, (noted or self).comparisons):
            reasons.append("the comparison was picked by hand")
        return ", and ".join(reasons)


def read(path: str | Path | None = None, **changes: object) -> Declaration:
    """The declaration in a file (by default $MMER_STUDY, or else data/study.toml), with changes for this once.

    Raises:
        MmerError: for a wrong setting; if the file is to blame, it is named.
    """
    file = Path(path or os.environ.get("MMER_STUDY") or root() / "data" / "study.toml").expanduser().resolve()
    try:
        settings = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        what = f"found {type(error).__name__}: {error}"
        raise MmerError(f"{file}: expected the declaration of a study, {what}") from None
    try:
        declaration = Declaration(folder=file.parent).changed(**settings)
    except MmerError as error:
        raise MmerError(f"{file}: {error}") from None
    return declaration.changed(**changes)


def in_question(one: Variant, other: Variant) -> bool:
    """Self- and cross-attention, all else the same, with statistical pooling: what the paper compares."""
    same = one.settings() | {"attention": None} == other.settings() | {"attention": None}
    return same and one.pooling == "statistical" and {one.attention, other.attention} == {"self", "cross"}


def _is_declared(pair: Pair, comparisons: Sequence[Pair] | None) -> bool:
    """The order of a pair does not matter: the test is two-sided."""
    if comparisons is None:
        return in_question(Variant.from_name(pair[0]), Variant.from_name(pair[1]))
    return set(pair) in [set(declared) for declared in comparisons]


def pairs_of_variants(setting: str, value: object) -> tuple[Pair, ...]:
    """Pairs of the names of different variants."""
    pairs = []
    for given in _items(setting, value):
        names = [_variant(item).name for item in _items(setting, given)]
        if len(names) != 2:
            raise MmerError(f'{setting} are pairs of variants, such as ["self_tva", "cross_tva"]; got {given!r}')
        if names[0] == names[1]:
            raise MmerError(f"{names[0]!r} cannot be compared with itself")
        pairs.append((names[0], names[1]))
    return tuple(pairs)


def _items(setting: str, value: object) -> list:
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise MmerError(f"{setting} is a list; got {value!r}")
    return list(value)


def _path(setting: str, value: object) -> str:
    if not isinstance(value, (str, Path)):
        raise MmerError(f"{setting} is a path; got {value!r}")
    return os.path.expanduser(value)


def _variants(setting: str, value: object) -> tuple[Variant, ...]:
    """Each item adds one variant, but "paper" and "paper_corrected" add the 14."""
    variants: dict[str, Variant] = {}
    for item in _items(setting, value):
        if item in ("paper", "paper_corrected"):
            suffix = item.removeprefix("paper")
            some = [Variant.from_name(name + suffix) for name in PAPER_VARIANTS]
        else:
            some = [_variant(item)]
        variants |= {variant.name: variant for variant in some}
    return tuple(variants.values())


def _variant(item: object) -> Variant:
    """A variant, given as such, by its name or as a table of its settings."""
    if isinstance(item, Variant):
        return item
    if isinstance(item, str):
        return Variant.from_name(item)
    if not isinstance(item, dict):
        raise MmerError(f"a variant is a name or a table of settings; got {item!r}")
    known = [f.name for f in fields(Variant)] + ["preset"]
    if unknown := [name for name in item if name not in known]:
        raise MmerError(f"variant {item}: unknown setting {unknown[0]!r}; known are {', '.join(known)}")
    if "modalities" not in item:
        raise MmerError(f"variant {item}: modalities is missing")
    return Variant(**item)


def _whole_numbers(setting: str, value: object) -> tuple[int, ...]:
    """Also of numpy, which a record could not hold as they are."""
    numbers = _items(setting, value)
    if not all(isinstance(n, (int, np.integer)) and not isinstance(n, bool) and n >= 0 for n in numbers):
        raise MmerError(f"{setting} are whole numbers from 0 on; got {numbers}")
    return tuple(dict.fromkeys(int(n) for n in numbers))


def _protocol(setting: str, value: object) -> Protocol:
    if isinstance(value, Protocol):
        return value
    if not isinstance(value, dict):
        raise MmerError(f"{setting} is a table of settings; got {value!r}")
    known = [f.name for f in fields(Protocol)]
    if unknown := [name for name in value if name not in known]:
        raise MmerError(f"{setting}: unknown setting {unknown[0]!r}; known are {', '.join(known)}")
    return Protocol(**value)


def _metric(setting: str, value: object) -> str:
    if value not in METRICS:
        raise MmerError(f"{setting} is one of {', '.join(METRICS)}; got {value!r}")
    return str(value)


def _margin(setting: str, value: object) -> float:
    if not isinstance(value, (float, np.floating)) or not 0 < value < 1:
        raise MmerError(f"{setting} is a difference of scores between 0 and 1, such as 0.02; got {value!r}")
    return float(value)


_MAY_BE_NONE = ("store", "folds", "margin", "comparisons", "ledger")
_CHECKS = {  # of all settings; each returns the form in which the setting is kept
    "corpus": _path,
    "store": _path,
    "variants": _variants,
    "folds": _whole_numbers,
    "seeds": _whole_numbers,
    "primary_metric": _metric,
    "margin": _margin,
    "comparisons": pairs_of_variants,
    "ledger": _path,
    "protocol": _protocol,
}
