"""corpus.json: what a store notes, and what each thing has to be."""

from collections.abc import Callable, Collection
from pathlib import Path, PurePosixPath
from typing import Any

from mmer_core.errors import CorpusError
from mmer_core.texts import check_unicode, read_json

TEXTS = ("texts", "speakers", "dialogues", "sessions")  # of each row, where the source tells them
NUMBERS = ("starts", "ends", "scores")


def read_description(file: Path, version: int, required: Collection[str], known: Collection[str]) -> dict[str, Any]:
    """What is noted of the known things; CorpusError if a required one is missing, or one is of another kind."""
    noted = read_json(file, "the description of a store")
    found = noted.get("format") if isinstance(noted, dict) else None
    if found != version:
        raise CorpusError(file, f"store format {version}", f"format {found}; import the corpus again")
    if missing := set(required) - noted.keys():
        raise CorpusError(file, "the description of a store", f"one without {', '.join(sorted(missing))}")
    for name, (what, good) in _KINDS.items():
        if not good(value := noted.get(name)):
            raise CorpusError(file, f"{name}: {what}", f"{value!r}"[:200])
    check_unicode(file, noted["name"], noted["source"], *noted["classes"], *noted["ids"])
    return {name: noted[name] for name in known if name in noted}


def _all(kind: type, values: object) -> bool:
    return isinstance(values, list) and all(type(value) is kind for value in values)


def file_name(name: object) -> bool:
    """Whether a name may become a folder's, such as the ledger's: not one that leads elsewhere."""
    return isinstance(name, str) and name not in ("", ".", "..") and not set(name) & set("/\\\0")


def names_a_file(name: str) -> bool:
    """Whether an id, such as "train/dia0_utt0", may name a file below a folder: not one that leads elsewhere."""
    path = PurePosixPath(name)
    leads = path.is_absolute() or {".", ".."} & {*path.parts, name}
    return name == str(path) and not leads and not set(name) & set("\\\0:")


def _array(noted: object) -> bool:
    return isinstance(noted, list) and len(noted) == 2 and _all(int, noted[0]) and isinstance(noted[1], str)


def _table(noted: object, *kinds: type) -> bool:
    return noted is None or (isinstance(noted, dict) and all(type(x) in kinds for x in noted.values()))


def _column(noted: object, *kinds: type) -> bool:
    return noted is None or (isinstance(noted, list) and all(type(x) in kinds for x in noted))


_KINDS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    **{name: ("a name for folders", file_name) for name in ("name", "fingerprint")},
    **{"source": ("a text", lambda x: isinstance(x, str)), "synthetic": ("true or false", lambda x: type(x) is bool)},
    "classes": ("a list of different names", lambda x: _all(str, x) and 0 < len(x) == len(set(x))),
    "folds": ("a list of different numbers", lambda x: _all(int, x) and len(x) == len(set(x))),
    **{name: ("a list of texts", lambda x: _all(str, x)) for name in ("findings", "ids")},
    **{name: ("a list of texts, or null", lambda x: _column(x, str)) for name in ("words", *TEXTS)},
    **{name: ("a list of numbers, or null", lambda x: _column(x, int, float)) for name in NUMBERS},
    "dropped": ("numbers by fold", lambda x: isinstance(x, dict) and all(map(str.isdecimal, x)) and _table(x, int)),
    "rates": ("numbers by modality, or null", lambda x: _table(x, int, float)),
    "stamp": ("lists by file, or null", lambda x: _table(x, list)),
    "arrays": ("shape and type by name", lambda x: isinstance(x, dict) and all(map(_array, x.values()))),
}
