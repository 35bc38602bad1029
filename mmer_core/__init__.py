"""mmer: is cross-attention preferable to self-attention for multi-modal emotion recognition? (`import mmer_core as mc`)

Names are loaded when they are first used, so that `mmer_core.stats` and the corpus work where torch is not installed.
"""

import importlib
import pkgutil
from typing import Any

_FACE = {
    "errors": "MmerError CorpusError",
    "corpus": "Corpus",
    "formats": "open_corpus",
    "folds": "make_folds write_folds read_folds",
    "demo": "make_demo_corpus",
    "variant": "Variant PAPER_VARIANTS",
    "protocol": "Protocol",
    "model": "FusionModel from_published_weights published_arrays",
    "study": "Study open_study",
    "metrics": "published_results",
    "stats": "compare",
    "figures": "save_figure",
    "bundle": "export stale",
}
_HOME = {name: room for room, names in _FACE.items() for name in names.split()}
_ROOMS = [room.name for room in pkgutil.iter_modules(__path__) if not room.name.startswith("_")]

__all__ = list(_HOME)


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(f"mmer_core.{_HOME[name]}"), name)
    if name in _ROOMS:
        return importlib.import_module(f"mmer_core.{name}")
    raise AttributeError(f"module 'mmer_core' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME, *_ROOMS])
