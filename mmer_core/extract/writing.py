"""Small files of an extraction, each written whole or not at all: features, the table, and corpus.toml."""

import csv
import io
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil

from mmer_core.extract.found import Recording
from mmer_core.formats.plain import COLUMNS
from mmer_core.paths import write_whole

FIELDS = ("id", "label", *COLUMNS, "fold", "part")
SCRATCH = re.compile(r"\..+?\.(\d+)(\.[0-9a-f]{8})?\.part")  # a file on its way, with the process that writes it


def tidy(out: Path) -> None:
    """Take away what processes that were killed left half-written."""
    for rest in [*out.glob(".*.part"), *(out / "features").rglob(".*.part")]:
        if (owner := SCRATCH.fullmatch(rest.name)) and not _lives(int(owner[1])):
            rest.unlink(missing_ok=True)


def _lives(number: int) -> bool:
    """Whether there is a process of Python with this number: others may have got it since."""
    try:
        return "python" in psutil.Process(number).name().lower()
    except psutil.Error:
        return False


def write(file: Path, content: str | bytes) -> None:
    """Write a file whole or not at all; one that says the same already stays, and whoever read it goes on."""
    data = content.encode("utf-8") if isinstance(content, str) else content
    if file.is_file() and file.read_bytes() == data:
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    write_whole(file, data)


def table_of(rows: list[Recording]) -> str:
    columns = ["id", *(name for name in FIELDS if any(name in r.facts for r in rows))]
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([r.id, *(r.facts.get(name, "") for name in columns[1:])] for r in rows)
    return out.getvalue()


def toml_of(settings: Mapping[str, Any]) -> str:
    """Texts, numbers, lists of texts, and tables of tables of them."""
    plain = [f"{k} = {_quoted(x)}" for k, x in settings.items() if not isinstance(x, dict)]
    tables = []
    for name, table in settings.items():
        if isinstance(table, dict) and not any(isinstance(x, dict) for x in table.values()):
            tables += ["", f"[{name}]", *(f"{_quoted(k)} = {_quoted(x)}" for k, x in table.items())]
        elif isinstance(table, dict):
            for k, inner in table.items():
                tables += ["", f"[{name}.{_quoted(k)}]", *(f"{n} = {_quoted(x)}" for n, x in inner.items())]
    return "\n".join([*plain, *tables, ""])


def _quoted(x: Any) -> str:
    """A value of TOML, which quotes as JSON does but for one sign."""
    return json.dumps(x, ensure_ascii=False).replace("\x7f", "\\u007f")
