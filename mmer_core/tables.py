"""Tables for a paper: of numbers, as people read them, and as files."""

import contextlib
import itertools
import os
import re
import textwrap
from collections.abc import Callable, Collection
from functools import cache, partial
from pathlib import Path
from typing import NamedTuple

import matplotlib
import pandas as pd
from matplotlib.ft2font import FT2Font

from mmer_core import stats
from mmer_core.errors import MmerError
from mmer_core.figures import output_folder
from mmer_core.metrics import published_results
from mmer_core.paths import write_whole
from mmer_core.stats import Comparison, self_and_cross
from mmer_core.study import Study
from mmer_core.typeset import html, markdown, readable, template, tex

COLUMN, PAGE = 252.0, 516.0  # points of TeX: one and two columns of an IEEE paper
GAP = 8.0  # points between two columns
ROWS = 50  # of a table; a longer one goes on in another float
HEAD = 11  # letters of a heading in a line
NUMBER = re.compile(r"([−+<]?\d.*)?–?")
COUNTS, PROBABILITIES = ("parameters", "runs", "folds", "seeds", "n"), ("p", "p (Holm)")
SCORES = ("accuracy", "balanced_accuracy")  # those that are published; a study's primary metric joins them
REMINDER = (
    "Figures of a licensed corpus may show its transcripts, and a ledger holds its utterance ids and labels: "
    "look at the licence before you share either."
)
Cells = Collection[tuple[int, str]]  # places in a table: number of the row from 0 on, name of the column


class Table(NamedTuple):
    """A table with its caption; a notebook shows it as people read it."""

    frame: pd.DataFrame  # all that is known, for the CSV file
    caption: str
    printed: pd.DataFrame | None = None  # what stands in print, where that is not all
    bold: Cells = ()

    @property
    def shown(self) -> pd.DataFrame:
        return shown(self.frame if self.printed is None else self.printed)

    def __str__(self) -> str:
        return as_markdown(self.shown, self.caption, self.bold)

    def _repr_html_(self) -> str:
        return as_html(self.shown, self.caption, self.bold)


def scores_shown(study: Study) -> list[str]:
    """The scores that tables show."""
    return list(dict.fromkeys((*SCORES, study.primary_metric)))


def results_table(study: Study, results: pd.DataFrame | None = None) -> pd.DataFrame:
    """One row a variant: parameters, runs, and of `scores_shown` (per cent) the mean, SD over folds and SD over seeds.

    SD over folds: of the means over seeds. SD over seeds: within a fold, pooled over folds; needs two seeds. Then the
    verdict of cross- against self-attention on the same modalities, where the study declares a margin. The last columns
    are the numbers published for IEMOCAP (source: `metrics.SOURCE`), under the field's names.
    """
    results = study.results() if results is None else results
    published = published_results().set_index("variant").reindex(results["variant"].unique())
    verdicts, wanted = {}, len(study.folds) * len(study.seeds)
    if study.margin is not None:  # a declared pair stands in either order; "cross" sorts before "self"
        judged = [c for c in study.comparisons() if self_and_cross(c)]
        interim = [" (interim)" * any(note.startswith("Interim") for note in c.notes) for c in judged]
        verdicts = {min(c.first, c.second): c.verdict + mark for c, mark in zip(judged, interim, strict=True)}
    rows = []
    for name, mine in results.groupby("variant", sort=False):
        done = len(mine) if len(mine) == wanted else f"{len(mine)} of {wanted}"
        row = {"variant": name, "parameters": mine["parameters"].iloc[0], "runs": done}
        for metric in scores_shown(study):
            by_fold = mine.groupby("fold")[metric]
            row |= {
                metric: 100 * mine[metric].mean(),
                f"{metric}: SD folds": 100 * by_fold.mean().std(),
                f"{metric}: SD seeds": 100 * (by_fold.var().mean() ** 0.5),
            }
        row["against self"] = verdicts.get(name, "")
        rows.append(row | {f"published {metric}": 100 * published.loc[name, metric] for metric in SCORES})
    return pd.DataFrame(rows)


def results_printed(table: pd.DataFrame, metrics: Collection[str]) -> pd.DataFrame:
    """`results_table` in fewer columns: "mean (SD over folds, SD over seeds)" in one cell, beside what is published."""
    printed = table[["variant", "parameters", "runs"]].copy()
    for metric in metrics:
        parts = [shown(table[[f"{metric}{part}"]]).iloc[:, 0] for part in ("", ": SD folds", ": SD seeds")]
        printed[metric] = [f"{mean} ({folds}, {seeds})" for mean, folds, seeds in zip(*parts, strict=True)]
        if f"published {metric}" in table:
            printed[f"{metric} (published)"] = table[f"published {metric}"]
    return printed.assign(**{"against self": table["against self"]}) if table["against self"].any() else printed


def not_shown_worse(
    results: pd.DataFrame,
    metrics: Collection[str],
    margin: float | None,
    judge: Callable[[str, str, str], Comparison] | None = None,
) -> Cells:
    """Of each score, the variants (by row) that none is shown better than, if any is shown worse: Holm's 5%, all pairs.

    Nothing without a margin, or where variants cannot be compared over the same three folds or more.
    """
    names = list(dict.fromkeys(results["variant"]))
    cells: list[tuple[int, str]] = []
    if margin is None or len(names) < 2:
        return cells
    judge = judge or partial(stats.compare, results, rope=margin)
    for metric in metrics:
        with contextlib.suppress(MmerError):
            compared = [judge(*pair, metric) for pair in itertools.combinations(names, 2)]
            found = stats.not_shown_worse(compared)
            cells += [(names.index(name), metric) for name in found.variants if found.worse]
    return cells


def shown(frame: pd.DataFrame) -> pd.DataFrame:
    """A table as people read it: numbers rounded to what they mean, missing ones a dash, intervals in one column.

    Everything is text, and names of variants and columns are readable (`typeset.readable`).
    """
    if frame.empty:
        return pd.DataFrame({"": ["Nothing of this has been trained."]})
    cells = {str(c): [_cell(str(c), v) for v in frame[c].tolist()] for c in frame}
    cells = {c: column for c, column in cells.items() if any(column)}
    for low in [c for c in cells if re.fullmatch("(.* )?low", c) and c.removesuffix("low") + "high" in cells]:
        ends, name = zip(cells[low], cells.pop(low.removesuffix("low") + "high"), strict=True), low[:-3] + "interval"
        cells[low] = [f"{a} to {b}" if "–" not in (a, b) else "–" for a, b in ends]
        cells = {name if c == low else c: column for c, column in cells.items()}
    return pd.DataFrame({readable(c): column for c, column in cells.items()})


def _cell(column: str, value: object) -> str:
    """One value as text; `column` says how a number is rounded."""
    if pd.isna(value):  # type: ignore[call-overload]  # of whatever may stand in a cell
        return "–"
    if isinstance(value, (bool, str)) or not isinstance(value, (int, float)):
        return readable(value)
    if column in PROBABILITIES:
        return f"{value:.3f}" if value >= 0.0005 else "<0.001"
    if column == "hours":
        return f"{value:,.2g}" if value < 10 else f"{value:,.0f}"
    digits = 0 if float(value).is_integer() and (isinstance(value, int) or column in COUNTS) else 1
    return readable(f"{round(value, digits) + 0:,.{digits}f}")  # + 0: no minus before a zero


def save_table(
    frame: pd.DataFrame,
    name: str,
    caption: str,
    folder: str | Path | None = None,
    printed: pd.DataFrame | None = None,
    bold: Cells = (),
) -> list[Path]:
    """Write a table as LaTeX (booktabs), Markdown and CSV into figures/; returns the files.

    LaTeX and Markdown hold what is `printed` (by default all of the frame), with cells set in `bold`; CSV the frame.
    """
    files = [output_folder(folder) / f"{name}.{kind}" for kind in ("tex", "md", "csv")]
    table = shown(frame if printed is None else printed)
    texts = (as_tex(table, caption, name, bold), as_markdown(table, caption, bold))
    for file, text in zip(files, (*texts, frame.to_csv(index=False, lineterminator="\n")), strict=True):
        file.write_text(text, encoding="utf-8", newline="\n")
    return files


def as_markdown(table: pd.DataFrame, caption: str, bold: Cells = ()) -> str:
    """A table of texts as Markdown, numbers to the right."""
    rules = ["---:" if numeric else "---" for numeric in _numeric(table)]
    lines = [list(map(markdown, table.columns)), rules, *_rows(table, markdown, bold, "**{}**")]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + f"\n\n{markdown(readable(caption))}\n"


def as_html(table: pd.DataFrame, caption: str, bold: Cells = ()) -> str:
    """A table of texts as HTML: numbers to the right and on one line, words to the left and wrapped where need be."""
    columns = [(html(name), numeric) for name, numeric in zip(table, _numeric(table), strict=True)]
    rows = _rows(table, html, bold, "<b>{}</b>")
    return template("table.html.j2").render(columns=columns, rows=rows, caption=html(readable(caption)))


def as_tex(table: pd.DataFrame, caption: str, name: str, bold: Cells = ()) -> str:
    """A table of texts as LaTeX, which needs booktabs: one column of a paper wide, or two if it is wider.

    Words are wrapped where two columns are not enough; a long table is cut into floats of `ROWS` rows.
    """
    numeric, rows = _numeric(table), _rows(table, tex, bold, r"\textbf{{{}}}")
    heads = [textwrap.wrap(c, HEAD, break_long_words=False) or [""] for c in table.columns]
    widths = [max(map(_width, (*head, *table.iloc[:, i]))) * 1.02 + 1 for i, head in enumerate(heads)]
    words = [i for i, n in enumerate(numeric) if not n]
    total = sum(widths) + GAP * (len(widths) - 1)
    room = PAGE - total + sum(widths[i] for i in words)
    limit = next((w for w in range(400, 40, -5) if sum(min(w, widths[i]) for i in words) <= room), 40)
    for row, i in itertools.product(rows, (i for i in words if widths[i] > limit)):
        row[i] = rf"\parbox[t]{{{limit}pt}}{{\raggedright {row[i]}\strut}}"
    sides = ["r" if n else "l" for n in numeric]
    broken = [r" \\ ".join(map(tex, head)) for head in heads]
    top = [rf"\shortstack[{side}]{{{head}}}" for side, head in zip(sides, broken, strict=True)]
    label, env = re.sub(r"[^\w-]", "-", name, flags=re.ASCII), "table*" if total > COLUMN else "table"
    parts = [[" & ".join(row) for row in rows[i : i + ROWS]] for i in range(0, len(rows), ROWS)]
    more = [tex(f" Part {k} of {len(parts)}.") if len(parts) > 1 else "" for k in range(1, len(parts) + 1)]
    known = dict(env=env, gap=f"{GAP / 2:g}", caption=tex(readable(caption)), label=label, sides="".join(sides))
    return template("table.tex.j2").render(known, top=" & ".join(top), parts=list(zip(parts, more, strict=True)))


def _numeric(table: pd.DataFrame) -> list[bool]:
    """Which columns hold nothing but numbers and dashes."""
    return [all(map(NUMBER.fullmatch, table.iloc[:, i])) for i in range(table.shape[1])]


def _rows(table: pd.DataFrame, typeset: Callable[[object], str], bold: Cells, strong: str) -> list[list[str]]:
    """The cells as TeX, Markdown or HTML; those in `bold` look like `strong`."""
    places = {(row, readable(column)) for row, column in bold}
    return [
        [strong.format(typeset(c)) if (i, n) in places else typeset(c) for n, c in zip(table, row, strict=True)]
        for i, row in enumerate(table.to_numpy().tolist())
    ]


@cache
def _font() -> FT2Font:
    font = FT2Font(os.path.join(matplotlib.get_data_path(), "fonts", "ttf", "cmb10.ttf"))  # a bit wider than in print
    font.set_size(8, 720)
    return font


def _width(text: str) -> float:
    """Of a text in TeX's footnote size, in points."""
    plain = re.sub(r"[^ -~]", lambda c: "+" if c[0] in "−±×" else "M" if len(tex(c[0])) < 9 else "M" * 7, text)
    _font().set_text(plain)
    return _font().get_width_height()[0] / 64 / 10 * 72.27 / 72


def publish(study: Study, path: str | Path) -> int:
    """Write `publishable` of each set of features as CSV, whole or not at all; returns how many runs.

    MmerError if nothing is trained, or the file cannot be written, or is another one.
    """
    file = Path(os.path.abspath(os.path.expanduser(path)))
    frame = pd.concat([each.publishable() for each in study.by_features().values()], ignore_index=True)
    if frame.empty:
        raise MmerError(f"{study!r}: nothing to publish; train something first (python -m mmer_core run)")
    try:
        if file.suffix.lower() != ".csv" and os.path.isfile(file):  # a study.toml, say
            raise MmerError(f"{file}: expected a CSV file to write over, or none; found another one")
        write_whole(file, frame.to_csv(index=False, lineterminator="\n").encode())
    except OSError as error:
        raise MmerError(f"{file}: expected a place for a CSV file, found: {error.strerror}") from None
    return len(frame)
