"""Small text files from outside: JSON, TOML and CSV in UTF-8, each read or refused with its file and line."""

import csv
import io
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmer_core.errors import CorpusError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

LARGEST = 2**30  # bytes


def read_text(file: Path, expected: str = "a text file") -> str:
    """The text of a file in UTF-8, with or without a byte order mark."""
    try:
        if os.path.exists(file) and not os.path.isfile(file):
            raise CorpusError(file, expected, "no file: a folder, a pipe or a device")  # which may never end
        if (size := file.stat().st_size) > LARGEST:
            raise CorpusError(file, f"{expected} of at most {LARGEST} bytes", f"{size}")
        data = file.read_bytes()
    except CorpusError:
        raise
    except (OSError, ValueError) as error:
        raise CorpusError(file, expected, f"{type(error).__name__}: {error}") from None
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = 1 + data[: error.start].count(b"\n")
        kind = "UTF-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "cp1252 or Latin-1"
        found = f"byte {data[error.start]:#04x} ({kind}?); save the file as UTF-8"
        raise CorpusError(f"{file} line {line}", f"{expected} in UTF-8", found) from None


def read_json(file: Path, expected: str) -> Any:
    return _parsed(file, expected, json.loads)


def read_toml(file: Path, expected: str) -> dict[str, Any]:
    return _parsed(file, expected, tomllib.loads)


def _parsed(file: Path, expected: str, parse: Any) -> Any:
    text = read_text(file, expected)
    try:
        parsed = parse(text)
        if parse is tomllib.loads:
            repr(parsed)  # so that errors can show it: 0xff.. may have more digits than Python prints
        return parsed
    except (ValueError, RecursionError) as error:
        hint = " (a path of Windows is written with / or in '..')" * ("\\" in text and parse is tomllib.loads)
        raise CorpusError(file, expected, f"{type(error).__name__}: {error}"[:200] + hint) from None


def read_table(file: Path, required: Sequence[str]) -> list[dict[str, str]]:
    """The rows of a CSV file with a head, separated by commas; "line" in each says where it stands."""
    expected = f"a table with the columns {', '.join(required)}"
    reader = csv.reader(io.StringIO(read_text(file, expected), newline=""), strict=True)
    try:
        rows = [(reader.line_num, row) for row in reader if row]
    except csv.Error as error:
        raise CorpusError(f"{file} line {reader.line_num}", expected, str(error)) from None
    head = [name.strip() for name in rows[0][1]] if rows else []
    if len(set(head)) < len(head) or not set(required) <= set(head):
        found = "one separated by ';'; use commas" if len(head) == 1 and ";" in head[0] else f"{head}"[:200]
        raise CorpusError(file, expected, found if head else "nothing")
    for line, row in rows[1:]:
        if len(row) != len(head):
            raise CorpusError(f"{file} line {line}", f"{len(head)} columns, as in the head", f"{len(row)}")
    return [{**dict(zip(head, map(str.strip, row), strict=True)), "line": str(line)} for line, row in rows[1:]]


def check_unicode(where: object, *names: str) -> None:
    """CorpusError unless names can be written to a file: a name of bytes that are no UTF-8 cannot."""
    for name in names:
        try:
            name.encode("utf-8")
        except UnicodeEncodeError:
            raise CorpusError(repr(str(where)), "names in valid Unicode", repr(name)) from None
