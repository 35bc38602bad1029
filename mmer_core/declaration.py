"""The declaration: all that is decided before the runs, checked in one place wherever it was said. Needs no torch."""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from mmer_core.corpus import MODALITIES, Corpus
from mmer_core.demo import make_demo_corpus
from mmer_core.errors import CorpusError, MmerError
from mmer_core.formats import adapted, open_corpus
from mmer_core.labels import Classes
from mmer_core.metrics import METRICS
from mmer_core.paths import root
from mmer_core.protocol import Protocol
from mmer_core.texts import read_toml
from mmer_core.variant import PAPER_VARIANTS, Variant

Pair = tuple[str, str]  # names of two variants
FAMILIES = ("attention", "modalities")  # of pairs, by what the two of a pair differ in


@dataclass(frozen=True)
class Declaration:
    """What a study is to be. Names, ranges and arrays are taken and kept as below; MmerError names a wrong setting."""

    corpus: str = "demo"  # the built-in synthetic corpus; else a path
    store: str | None = None  # where a corpus in another format is imported to
    text: str | None = None  # which features of a plain folder that has several sets; so the next two
    video: str | None = None
    audio: str | None = None
    features: dict[str, dict[str, str]] | None = None  # several sets of them, by names of your own; see `by_features`
    skip: bool = False  # leave out, and tell, utterances that cannot be used
    classes: Classes | None = None  # a set of labels, names for names, or edges of scores; None: as the corpus has them
    folds_from: str | dict | None = None  # a partition file, or k, by and seed; None: those of the corpus
    variants: tuple[Variant, ...] = tuple(PAPER_VARIANTS.values())
    folds: tuple[int, ...] | None = None  # None: all
    seeds: tuple[int, ...] = tuple(range(1, 11))  # the paper's ten
    primary_metric: str = "accuracy"
    margin: float | None = None
    comparisons: tuple[Pair | str, ...] | None = None  # pairs, and families of them; None: the first family
    ledger: str | None = None  # None: runs/<corpus>
    protocol: Protocol = field(default_factory=Protocol)
    file: Path | None = None  # that it was read from; no setting

    def __post_init__(self) -> None:
        for setting, (what, types, keep) in _SETTINGS.items():
            given = getattr(self, setting)
            if given is None and setting in _MAY_BE_NONE:
                continue
            kept = keep(given) if isinstance(given, types) else None
            if kept is None:
                raise MmerError(f"{setting} is {what}; got {given!r}")
            if setting in ("variants", "seeds", "folds") and not kept:
                raise MmerError(f"a study needs {setting}")
            object.__setattr__(self, setting, kept)

    def changed(self, **settings: object) -> "Declaration":
        """The same with other settings."""
        _refuse_unknown("", settings, list(_SETTINGS))
        return replace(self, **settings)  # type: ignore[arg-type]  # checked when it is made

    @property
    def folder(self) -> Path:
        """Where relative paths start."""
        return self.file.parent if self.file else Path.cwd()

    def by_features(self) -> "dict[str, Declaration]":
        """The same with each of the declared sets of features alone."""
        every = self.features or {}
        plain = dict.fromkeys(("features", *MODALITIES.values()))
        return {name: self.changed(**{**plain, **chosen}) for name, chosen in every.items()}

    def open_corpus(self) -> Corpus:
        """The corpus; of several sets of features with the first, unless text, video or audio name one."""
        if self.features and not (self.text or self.video or self.audio):
            return next(iter(self.by_features().values())).open_corpus()
        folds: Any = self.folder / self.folds_from if isinstance(self.folds_from, str) else self.folds_from
        if self.corpus == "demo":
            if self.text or self.video or self.audio or self.store:
                raise MmerError("text, video, audio and store are of corpora that are read; the demo is made")
            return adapted(make_demo_corpus(self.folder / "demo"), folds, self.classes)
        store, sets = self.store and self.folder / self.store, (self.text, self.video, self.audio)
        return open_corpus(self.folder / self.corpus, store, folds, self.classes, self.skip, *sets)

    @property
    def pairs(self) -> list[Pair]:
        """The declared comparisons, but for those of the family "modalities": that is another question."""
        items = FAMILIES[:1] if self.comparisons is None else self.comparisons
        return declared_pairs([item for item in items if item != "modalities"], self.variants)


def read(path: str | Path | None = None, **changes: object) -> Declaration:
    """The declaration in a file (by default $MMER_STUDY, or else data/study.toml), with changes for this once."""
    named = path or os.environ.get("MMER_STUDY") or root() / "data" / "study.toml"
    try:
        file = Path(named).expanduser().resolve()
    except (RuntimeError, ValueError, OSError) as error:  # a home of nobody, a zero byte, links in a circle
        raise CorpusError(repr(str(named))[:300], "the declaration of a study", str(error)[:300]) from None
    try:
        declared = Declaration(file=file).changed(**read_toml(file, "the declaration of a study"))
    except CorpusError:
        raise
    except MmerError as error:
        raise MmerError(f"{file}: {error}") from None
    return declared.changed(**changes)


def default_pairs(variants: Sequence[Variant]) -> list[Pair]:
    """Self- against cross-attention, all else the same, with statistical pooling: what the paper compares."""
    return [
        (one.name, other.name)
        for modalities in ("tv", "ta", "va", "tva")
        for one in variants
        if (one.modalities, one.attention, one.pooling) == (modalities, "self", "statistical")
        if (other := replace(one, attention="cross")) in variants
    ]


def added_modalities(variants: Sequence[Variant], most: int = 3) -> list[Pair]:
    """What each of so many modalities adds: a variant that has all of them against the same without one."""
    return [
        (rest.name, whole.name)
        for whole in variants
        for m in whole.modalities
        for rest in variants
        if len(whole.modalities) == most > 1 and rest.attention == whole.attention
        if rest == whole.with_modalities(rest.modalities) and rest.modalities == whole.modalities.replace(m, "")
    ]


def declared_pairs(comparisons: Iterable[Pair | str], variants: Sequence[Variant], most: int = 3) -> list[Pair]:
    """The pairs that are named, and of these variants those of the families that are; `most`: modalities there are."""
    families = {"attention": default_pairs(variants), "modalities": added_modalities(variants, most)}
    return [p for i in comparisons for p in (families[i] if isinstance(i, str) else [(i[0], i[1])])]


def _refuse_unknown(where: str, settings: Iterable[str], known: Sequence[str]) -> None:
    if unknown := [setting for setting in settings if setting not in known]:
        raise MmerError(f"{where}unknown setting {unknown[0]!r}; known are {', '.join(known)}")


def _variant(given: object) -> Variant:
    """A variant, its name, or a table of its settings."""
    if isinstance(given, Variant):
        return given
    if not isinstance(given, dict):
        return Variant.from_name(str(given))
    _refuse_unknown(f"variant {given}: ", given, [*(f.name for f in fields(Variant)), "preset"])
    return Variant(**{"modalities": "", **given})  # it refuses "" in its own words


def _variants(given: Iterable) -> tuple[Variant, ...] | None:
    """Each item adds one, but "paper" and "paper_corrected" add the 14."""
    if isinstance(given, str):
        return None
    variants: dict[str, Variant] = {}
    for item in given:
        paper = item in ("paper", "paper_corrected")
        some = [name + item.removeprefix("paper") for name in PAPER_VARIANTS] if paper else [item]
        variants |= {variant.name: variant for variant in map(_variant, some)}
    return tuple(variants.values())


def _whole_numbers(given: Iterable) -> tuple[int, ...] | None:
    """As Python's own, where numpy's are given too: a record could not hold those."""
    numbers = list(given)
    if not all((type(n) is int or isinstance(n, np.integer)) and n >= 0 for n in numbers):
        return None
    return tuple(dict.fromkeys(map(int, numbers)))


def _pairs(given: Iterable) -> tuple[Pair | str, ...] | None:
    items = list(given)
    if not all((isinstance(item, (list, tuple)) and len(item) == 2) or item in FAMILIES for item in items):
        return None
    named = tuple(i if isinstance(i, str) else (_variant(i[0]).name, _variant(i[1]).name) for i in items)
    if same := [item[0] for item in named if item[0] == item[1]]:
        raise MmerError(f"{same[0]!r} cannot be compared with itself")
    return named


def _protocol(given: dict | Protocol) -> Protocol:
    if isinstance(given, Protocol):
        return given
    _refuse_unknown("protocol: ", given, [f.name for f in fields(Protocol)])
    return Protocol(**given)


def _sets(given: dict) -> dict | None:
    """Tables of names of features by modality."""

    def good(chosen: object) -> bool:
        if not isinstance(chosen, dict) or not chosen or not chosen.keys() <= set(MODALITIES.values()):
            return False
        return all(isinstance(name, str) for name in chosen.values())

    return given if given and all(map(good, given.values())) else None


_FEATURES = ("a name of features, or 'none'", str, str)
_MAY_BE_NONE = (
    "store",
    "text",
    "video",
    "audio",
    "features",
    "classes",
    "folds_from",
    "folds",
    "margin",
    "comparisons",
    "ledger",
)
# What each is, the types in which it may be given, and what is kept of it (None: it is wrong).
_SETTINGS: dict[str, tuple] = {
    "corpus": ("a path", (str, Path), os.path.expanduser),
    "store": ("a path", (str, Path), os.path.expanduser),
    **{"text": _FEATURES, "video": _FEATURES, "audio": _FEATURES, "skip": ("true or false", bool, bool)},
    "features": ('tables of features, such as modern = {audio = "wavlm", text = "roberta"}', dict, _sets),
    "classes": (
        "a set of labels, a table of old and new names, or edges of scores",
        (str, dict, list, tuple),
        lambda x: x,
    ),
    "folds_from": (
        "a partition file, or a table of k, by and seed",
        (str, Path, dict),
        lambda x: x if isinstance(x, dict) else os.path.expanduser(x),
    ),
    "variants": ("a list of variants", Iterable, _variants),
    "folds": ("a list of whole numbers from 0 on", Iterable, _whole_numbers),
    "seeds": ("a list of whole numbers from 0 on", Iterable, _whole_numbers),
    "primary_metric": (f"one of {', '.join(METRICS)}", str, lambda name: name if name in METRICS else None),
    "margin": ("a difference of scores between 0 and 1, such as 0.02", float, lambda x: x if 0 < x < 1 else None),
    "comparisons": (f'a list of pairs of variants, such as ["self_t", "self_v"], or {FAMILIES}', Iterable, _pairs),
    "ledger": ("a path", (str, Path), os.path.expanduser),
    "protocol": ("a table of settings", (dict, Protocol), _protocol),
}
