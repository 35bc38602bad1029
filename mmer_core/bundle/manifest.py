"""The manifest of a bundle: from which runs each file was made, and what has changed since."""

import hashlib
import json
import re
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd

import mmer_core
from mmer_core.analyses import Item
from mmer_core.bundle.items import contents, subjects
from mmer_core.errors import MmerError
from mmer_core.figures import output_folder
from mmer_core.metrics import SOURCE
from mmer_core.record import as_written
from mmer_core.study import Study, open_study
from mmer_core.tables import SCORES, Table
from mmer_core.typeset import variants_named

FILE = "manifest.json"
SENTENCE = re.compile(r"(?<=\.) (?=[A-Z])|\n+")  # where one begins


def written(study: Study, items: dict[str, Item], files: dict[str, list[Path]], left_out: dict[str, str]) -> dict:
    """The manifest of what was just written. It holds no date and no path of this machine.

    runs: of each variant its finished runs, by their place in the ledger, with the sha256 of run.json. items: of each
    the variants from whose runs it was made, and the sha256 of its files; of a table also the variants of each row (of
    all its cells, but those of the columns in `cells`, which name theirs), of a text those of each sentence. Where none
    are named, it comes from all that the item is made from.
    """
    entries: dict[str, Any] = {}
    subject = subjects(study)
    for name, made in files.items():
        item, about = items.get(name), subject.get(name, [])
        entries[name] = {"variants": about, "files": {file.name: _sha256(file) for file in made}}
        if isinstance(item, Table) and about:
            rows = [_named(study, "; ".join(map(str, row))) for row in item.frame.to_numpy().tolist()]
            entries[name] |= {"rows": rows, "cells": _cells(item.frame, rows)}
        if isinstance(item, str):
            entries[name]["sentences"] = {said: _named(study, said) for said in SENTENCE.split(item.strip())}
    missed = {name: {"why": why, "variants": subject[name]} for name, why in left_out.items()}
    code = {"mmer_core": version("mmer_core"), "commit": _commit()}
    return {"code": code, "study": _settings(study), "runs": _runs(study), "items": entries, "left out": missed}


def place(folder: str | Path | None) -> Path:
    """Where to read a bundle; unlike `output_folder`, it makes nothing."""
    return Path(folder).expanduser() if folder else output_folder(None)


def read(folder: str | Path | None = None) -> dict:
    """The manifest in a folder (figures/ by default); MmerError if there is none."""
    file = place(folder) / FILE
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        return {key: dict(found[key]) for key in ("code", "study", "runs", "items", "left out")}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise MmerError(f"{file}: expected the manifest of an export, found {type(error).__name__}: {error}") from None


def stale(folder: str | Path | None = None, study: Study | None = None) -> dict[str, str]:
    """What in a bundle is no longer what its study says, and why: {name of an item: reason}; empty if all is.

    Args:
        folder: where `export` wrote; figures/ by default.
        study: the study of the bundle; `open_study()` by default.

    MmerError if the folder has no manifest, or one of another corpus.
    """
    then, study = read(folder), study or open_study()
    now, runs = _settings(study), _runs(study)
    if then["study"].get("fingerprint") != now["fingerprint"]:
        raise MmerError(f"the bundle is of the corpus {then['study'].get('corpus')!r}; {study!r} is of another one")
    changed = [setting.replace("_", " ") for setting in now if then["study"].get(setting) != now[setting]]
    found, subject = {}, subjects(study)
    for name, entry in (then["items"] | then["left out"]).items():
        why = _outdated(entry, then["runs"], subject.get(name, []), runs)
        if entry["variants"] and changed:
            why = f"the study declares another {' and another '.join(changed)}"
        if not why and "files" in entry:
            why = _touched(place(folder), entry["files"])
        if why:
            found[name] = why + (" (it was left out)" if name in then["left out"] else "")
    known = set(found) | set(then["items"]) | set(then["left out"])
    return found | {name: "it is new" for name in contents(study) if name not in known}


def _outdated(entry: dict, then: dict, about: list[str], now: dict) -> str:
    """Why other runs would be used today than were used then; empty if they are the same."""
    if [v for v in entry["variants"] if v in then] != [v for v in about if v in now]:
        return f"it is now about {', '.join(about) or 'nothing'}"
    other = [name for name in about if then.get(name) != now.get(name)]
    counts = [f"{name} has {len(now.get(name, {}))} runs, not {len(then.get(name, {}))}" for name in other]
    same = [f"runs of {name} were replaced" for name in other if len(now.get(name, {})) == len(then.get(name, {}))]
    return "; ".join(same or counts)


def _touched(folder: Path, files: dict[str, str]) -> str:
    """Which files are gone or are not what was written."""
    gone = [f"{name} is missing" for name in files if not (folder / name).is_file()]
    other = [] if gone else [name for name, sha in files.items() if _sha256(folder / name) != sha]
    return "; ".join([*gone, *(f"{name} was changed since" for name in other)])


def _settings(study: Study) -> dict:
    """What was decided: today, and what the ledger noted before the first run; as JSON gives it back."""
    corpus, declared = study.corpus, study.ledger.declared(study.corpus.fingerprint)
    noted = {key: value for key, value in declared.items() if key != "when"}
    told = {"corpus": corpus.name, "synthetic": corpus.synthetic, "fingerprint": corpus.fingerprint}
    told |= {"variants": list(study.variants), "folds": study.folds, "seeds": study.seeds}
    told |= {"protocol": vars(study.protocol), "primary_metric": study.primary_metric, "margin": study.margin}
    return json.loads(json.dumps(told | {"comparisons": study.declaration.pairs, "noted before the runs": noted}))


def _runs(study: Study) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    for run in study.runs:
        if study.ledger.has(run):
            written = as_written((study.ledger.folder / run.folder / "run.json").read_bytes())
            sha = hashlib.sha256(written).hexdigest()
            found.setdefault(run.variant.name, {})[run.folder.partition("/")[2]] = sha
    return found


def _cells(frame: pd.DataFrame, rows: list[list[str]]) -> dict[str, list[list[str]] | str]:
    """Of columns that do not come from the variant of their row alone: of each cell, or the source."""
    pairs = [[*row, *(name.replace("cross_", "self_", 1) for name in row if name.startswith("cross_"))] for row in rows]
    known: dict[str, list[list[str]] | str] = {"against self": pairs, "p (Holm)": "all rows"}
    known |= {f"published {score}": SOURCE for score in SCORES}
    return {column: behind for column, behind in known.items() if column in frame}


def _named(study: Study, text: str) -> list[str]:
    """The variants of a study that a text names."""
    names = {variants_named(name): name for name in study.variants}
    longest_first = "|".join(map(re.escape, sorted(names, key=len, reverse=True)))
    found = re.findall(rf"(?:{longest_first})(?![+\w])", variants_named(text))
    return [names[name] for name in dict.fromkeys(found)]


def _sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _commit() -> str | None:
    """The commit of the checkout that this code lies in, marked where it was changed since; None without one."""
    git, said = ["git", "-C", str(Path(mmer_core.__file__).parent)], ""
    here, head = "ls-files --error-unmatch __init__.py", "describe --always --dirty --abbrev=40 --exclude=*"
    for question in (here.split(), head.split()):
        try:
            said = subprocess.run([*git, *question], capture_output=True, text=True, check=True).stdout.strip()
        except (OSError, subprocess.CalledProcessError):
            return None
    return said
