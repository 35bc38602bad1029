"""mmer: is cross-attention preferable to self-attention for multi-modal emotion recognition? (`import mmer_core as mc`)

Names are loaded when they are first used, so that `mmer_core.stats` and the corpus work where torch is not installed.
"""

from __future__ import annotations

import importlib
from typing import Any

_HOME = {
    "open_corpus": "formats",
    "Corpus": "corpus",
    "CorpusError": "errors",
    "MmerError": "errors",
    "make_demo_corpus": "demo",
    "Variant": "variant",
    "PAPER_VARIANTS": "variant",
    "FusionModel": "model",
    "from_published_weights": "model",
    "published_arrays": "model",
    "Protocol": "protocol",
    "Study": "study",
    "open_study": "study",
    "published_results": "metrics",
    "compare": "stats",
    "save_figure": "figures",
    "export": "bundle",
}
_ROOMS: tuple[str, ...] = (
    "errors",
    "paths",
    "metrics",
    "corpus",
    "store",
    "formats",
    "demo",
    "variant",
    "protocol",
    "layers",
    "model",
    "training",
    "ledger",
    "stats",
)
_ROOMS += ("declaration", "reading", "study", "explain", "figures", "tables", "bundle", "widgets")

__all__ = list(_HOME)


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(f"mmer_core.{_HOME[name]}"), name)
    if name in _ROOMS:
        return importlib.import_module(f"mmer_core.{name}")
    raise AttributeError(f"module 'mmer_core' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME, *_ROOMS])
