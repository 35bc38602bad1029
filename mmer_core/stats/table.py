"""Anybody's table of results: read, checked once, and brought into one form that all that follows may trust.

Names and ids are compared as text, whatever type a file or a frame gave them: 1, 1.0 and "1 " are the same variant.
"""

import csv
import numbers
import re
from collections.abc import Sequence
from pathlib import Path
from typing import SupportsIndex, TypeAlias

import numpy as np
import pandas as pd

from mmer_core.errors import MmerError

Table: TypeAlias = pd.DataFrame | str | Path  # a tidy frame, or the path of a CSV file
Share: TypeAlias = tuple[float | None, bool]  # n_test / n_train, if known, and whether all runs state it
DECIMAL_COMMA = re.compile(r"[+-]?\d*,\d+")
WHOLE = re.compile(r"0|-?[1-9]\d{0,17}")


def read(table: Table) -> pd.DataFrame:
    """A frame as it is, or the cells of a CSV file as text.

    Columns may be apart by commas, semicolons or tabs, the file may start with a byte order mark, and its path may be
    quoted or padded, as people paste it. MmerError says what to change where a file cannot be read.
    """
    if isinstance(table, pd.DataFrame):
        return table
    if not isinstance(table, (str, Path)):
        raise MmerError(f"results are a data frame or the path of a CSV file; got {type(table).__name__}")
    file = Path(str(table).strip().strip("\"'").strip()).expanduser()
    try:
        text = file.read_text(encoding="utf-8-sig")
        separator = max(",;\t", key=text.lstrip().split("\n", 1)[0].count)
        rows = list(csv.reader(text.splitlines(), delimiter=separator, skipinitialspace=True))
    except UnicodeDecodeError:
        raise MmerError(f"{file}: expected a CSV file in UTF-8; save it as one (a spreadsheet can export it)") from None
    except (OSError, ValueError) as error:
        raise MmerError(f"{file}: expected a CSV file, found {type(error).__name__}: {error}") from None
    except csv.Error as error:
        raise MmerError(f"{file}: expected a CSV file, found {error}") from None
    cells = {n: [cell.strip() for cell in row] for n, row in enumerate(rows, 1) if any(map(str.strip, row))}
    if len(cells) < 2:
        raise MmerError(f"{file}: expected a header and a row for each run, found {len(cells)} lines")
    (_, columns), *runs = cells.items()
    for n, row in runs:
        if len(row) != len(columns):
            raise MmerError(f"{file}: the header has {len(columns)} columns, line {n} has {len(row)}")
    return pd.DataFrame([row for _, row in runs], pd.Index([n for n, _ in runs], name="line"), columns)


def results_of(table: pd.DataFrame, variant: object, *needed: str) -> pd.DataFrame:
    """The rows of one variant; MmerError if there are none, or if a needed column lacks or stands there twice."""
    wanted, found = ("variant", *needed), list(table.columns)
    if odd := [column for column in wanted if not isinstance(column, str)]:
        raise MmerError(f"a column has a text for its name; got {odd[0]!r}")
    if missing := set(wanted) - set(found):
        raise MmerError(f"the frame lacks the columns {sorted(missing)}; it has {found}")
    if twice := [column for column in wanted if found.count(column) > 1]:
        raise MmerError(f"the frame has two columns {twice[0]!r}")
    names, name = [as_text(v) for v in table["variant"].tolist()], as_text(variant)
    if not name or name not in names:
        raise MmerError(f"no results of {name!r}; there are {sorted(set(names) - {''})}")
    return table[[n == name for n in names]]


def sides(table: pd.DataFrame, variants: Sequence[object], metric: str) -> list[pd.DataFrame]:
    """The runs of each variant, checked: fold, seed (whole numbers if all are, else text), score in [0, 1]; sorted."""
    if metric in ("variant", "fold", "seed"):
        raise MmerError(f"{metric!r} is no score")
    runs = pd.concat([_runs(table, variant, metric) for variant in variants], keys=range(len(variants)))
    for column in ("fold", "seed"):
        if all(WHOLE.fullmatch(text) for text in runs[column]):
            runs[column] = runs[column].map(int)
    return [runs.loc[n].sort_values(["fold", "seed"], ignore_index=True) for n in range(len(variants))]


def _runs(table: pd.DataFrame, variant: object, metric: str) -> pd.DataFrame:
    """fold, seed as text, score; MmerError names a row whose score or id is none, or a run that is there twice."""
    mine, name = results_of(table, variant, "fold", "seed", metric), as_text(variant)
    runs = pd.DataFrame({column: [as_text(v) for v in mine[column].tolist()] for column in ("fold", "seed")})
    for column in ("fold", "seed"):
        for n in np.flatnonzero(runs[column] == ""):
            raise MmerError(f"{name} has a result without a {column}: {_place(mine, n)}")
    runs["score"] = [as_number(v) for v in mine[metric].tolist()]
    for n in np.flatnonzero(~np.isfinite(runs["score"])):
        what = f"{_place(mine, n)} has {mine[metric].iloc[n]!r}"
        raise MmerError(f"{metric} of {name} has missing values, or some that are no numbers: {what}")
    for n in np.flatnonzero(~runs["score"].between(0, 1)):
        what = f"{metric} of {name} is {runs['score'][n]:g} in {_place(mine, n)}"
        raise MmerError(f"scores are in [0, 1]; {what} (divide by 100 what is in per cent)")
    for n in np.flatnonzero(runs.duplicated(["fold", "seed"])):
        run = f"fold {runs['fold'][n]} and seed {runs['seed'][n]}"
        raise MmerError(f"{name} has several results for {run}; choose one study's results, one row a run")
    return runs


def tested_share(table: pd.DataFrame, variants: Sequence[object]) -> Share:
    """Mean of n_test / n_train over the runs of variants that state it (None: none does), and whether all do."""
    if not {"n_train", "n_test"} <= set(table.columns):
        return None, False
    mine = [results_of(table, variant, "n_train", "n_test") for variant in variants]
    train, test = (np.concatenate([_counts(rows, column) for rows in mine]) for column in ("n_train", "n_test"))
    share = (test / train)[np.isfinite(test / train)]
    return (float(share.mean()) if len(share) else None), len(share) == len(train)


def _counts(rows: pd.DataFrame, column: str) -> np.ndarray:
    """Numbers of utterances; NaN where a cell is empty."""
    cells = rows[column].tolist()
    counts = np.array([as_number(cell) for cell in cells])
    for n in np.flatnonzero(~((counts >= 1) & (counts < np.inf) & (counts == np.floor(counts)))):
        if not is_empty(cells[n]):
            raise MmerError(f"{column} is a number of utterances, 1 or more; {_place(rows, n)} has {cells[n]!r}")
    return counts


def _place(rows: pd.DataFrame, n: SupportsIndex) -> str:
    return f"{rows.index.name if rows.index.name == 'line' else 'row'} {rows.index[n]}"


def as_text(value: object) -> str:
    """A name or an id as text; empty if there is none."""
    if type(value) is int or type(value) is str:  # nearly all are
        return str(value).strip()
    if value is None or value is pd.NA or value is pd.NaT:
        return ""
    if isinstance(value, numbers.Real) and not isinstance(value, numbers.Integral):
        value = float(value)
        return "" if np.isnan(value) else str(int(value)) if value.is_integer() else str(value)
    return str(value).strip()


def is_empty(cell: object) -> bool:
    return as_text(cell).lower() in ("", "nan", "na")


def as_number(cell: object) -> float:
    """A cell as a float, with a decimal comma too; NaN if it is no number."""
    try:
        if isinstance(cell, str) and DECIMAL_COMMA.fullmatch(cell.strip()):
            cell = cell.replace(",", ".")
        return float(cell)  # type: ignore[arg-type]  # whatever cannot be one says so
    except (TypeError, ValueError, OverflowError):
        return float("nan")
