"""corpus.json: what a store notes, and what each thing has to be."""

from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from mmer_core.errors import CorpusError
from mmer_core.texts import check_unicode, read_json


def read_description(file: Path, version: int, required: Collection[str], known: Collection[str]) -> dict[str, Any]:
    """What is noted of the known things; CorpusError if a required one is missing, or one is of another kind."""
    noted = read_json(file, "the description of a store")
    found = noted.get("format") if isinstance(noted, dict) else None
    if found != version:
        raise CorpusError(file, f"store format {version}", f"format {found}; import the corpus again")
    if missing := set(required) - noted.keys():
        raise CorpusError(file, "the description of a store", f"one without {', '.join(sorted(missing))}")
    for name, (what, good) in _KINDS.items():
        if not good(value := noted[name]):
            raise CorpusError(file, f"{name}: {what}", f"{value!r}"[:200])
    check_unicode(file, *noted["classes"])
    return {name: noted[name] for name in known if name in noted}


def _all(kind: type, values: object) -> bool:
    return isinstance(values, list) and all(type(value) is kind for value in values)


def _folder(name: object) -> bool:
    """Whether a name may become a folder's, such as the ledger's: not one that leads elsewhere."""
    return isinstance(name, str) and name not in ("", ".", "..") and not set(name) & set("/\\\0")


def _array(noted: object) -> bool:
    return isinstance(noted, list) and len(noted) == 2 and _all(int, noted[0]) and isinstance(noted[1], str)


_KINDS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "name": ("a name for folders", _folder),
    "classes": ("a list of different names", lambda x: _all(str, x) and 0 < len(x) == len(set(x))),
    "folds": ("a list of different numbers", lambda x: _all(int, x) and len(x) == len(set(x))),
    "findings": ("a list of sentences", lambda x: _all(str, x)),
    "ids": ("a list of ids", lambda x: _all(str, x)),
    "words": ("a list of words, or null", lambda x: x is None or _all(str, x)),
    "dropped": ("numbers by fold", lambda x: isinstance(x, dict) and all(k.isdigit() and type(x[k]) is int for k in x)),
    "arrays": ("shape and type by name", lambda x: isinstance(x, dict) and all(map(_array, x.values()))),
}
