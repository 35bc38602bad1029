"""study.toml: the one file that declares a study before its runs."""

from __future__ import annotations

import os
import sys
from dataclasses import fields
from pathlib import Path

from mmer_core.corpus import Corpus
from mmer_core.demo import make_demo_corpus
from mmer_core.formats import open_corpus
from mmer_core.paths import root
from mmer_core.protocol import Protocol
from mmer_core.study import Study
from mmer_core.variant import PAPER_VARIANTS, Variant

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_KEYS = {  # what may be declared, and its type
    "corpus": str,
    "store": str,
    "variants": list,
    "folds": list,
    "seeds": list,
    "primary_metric": str,
    "margin": float,
    "ledger": str,
    "protocol": dict,
}


def open_study(path: str | Path | None = None, **changes: object) -> Study:
    """Open the study that a file declares (see data/study.toml for what can be said there).

    Args:
        path: the file; $MMER_STUDY by default, or else data/study.toml. Paths in it are relative to its folder.
        changes: settings that replace those of the file for this once, such as seeds=range(1, 3).

    Raises:
        ValueError: naming the file and the setting, for an unknown one or one of a wrong type or value.
        CorpusError: if the corpus cannot be opened.
    """
    file = Path(path or os.environ.get("MMER_STUDY") or root() / "data" / "study.toml").expanduser().resolve()
    try:
        declared = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(
            f"{file}: expected the declaration of a study, found {type(error).__name__}: {error}"
        ) from None
    for key, value in declared.items():
        if key not in _KEYS:
            raise ValueError(f"{file}: unknown setting {key!r}; known are {', '.join(_KEYS)}")
        if not isinstance(value, _KEYS[key]):
            raise ValueError(f"{file}: {key} is a {_KEYS[key].__name__}; got {value!r}")
    if unknown := set(changes) - set(_KEYS):
        raise ValueError(f"unknown setting {unknown.pop()!r}; known are {', '.join(_KEYS)}")
    settings = {**declared, **changes}
    try:
        corpus = _corpus(settings, file.parent)
        ledger = file.parent / Path(settings.get("ledger", f"runs/{corpus.name}")).expanduser()
        protocol = settings.get("protocol", {})
        if isinstance(protocol, dict):
            if unknown := set(protocol) - {f.name for f in fields(Protocol)}:
                raise ValueError(f"protocol: unknown setting {unknown.pop()!r}")
            protocol = Protocol(**protocol)
        plain = {k: settings[k] for k in ("folds", "primary_metric", "margin") if k in settings}
        seeds = settings.get("seeds", range(1, 11))
        return Study(
            corpus, _variants(settings.get("variants", ["paper"])), seeds, protocol=protocol, ledger=ledger, **plain
        )
    except (ValueError, TypeError) as error:
        raise type(error)(f"{file}: {error}") if type(error) in (ValueError, TypeError) else error from None


def _corpus(settings: dict, folder: Path) -> Corpus:
    where = settings.get("corpus", "demo")
    if isinstance(where, Corpus):
        return where
    if where == "demo":
        return make_demo_corpus(folder / "demo")
    store = settings.get("store")
    return open_corpus(folder / Path(where).expanduser(), store and folder / Path(store).expanduser())


def _variants(declared: list) -> list[Variant]:
    """Names, "paper" or "paper_corrected" for the 14, tables of settings, or variants."""
    found: list[Variant] = []
    for item in declared:
        if item in ("paper", "paper_corrected"):
            suffix = item.removeprefix("paper")
            found += [Variant.from_name(name + suffix) for name in PAPER_VARIANTS]
        elif isinstance(item, dict):
            found.append(Variant(**item))
        else:
            found.append(item if isinstance(item, Variant) else Variant.from_name(str(item)))
    return found
