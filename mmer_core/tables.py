"""Tables for a paper: of numbers, as people read them, and as files."""

import contextlib
import os
from pathlib import Path

import pandas as pd

from mmer_core.errors import MmerError
from mmer_core.figures import output_folder
from mmer_core.metrics import published_results
from mmer_core.stats import Comparison, self_and_cross
from mmer_core.study import Study

SCORES = ("accuracy", "balanced_accuracy")  # those that are published; a study's primary metric joins them
REMINDER = (
    "Figures of a licensed corpus may show its transcripts, and a ledger holds its utterance ids and labels: "
    "look at the licence before you share either."
)


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
    verdicts = {}
    if study.margin is not None:  # a declared pair stands in either order; "cross" sorts before "self"
        verdicts = {min(c.first, c.second): _verdict(c) for c in study.comparisons() if self_and_cross(c)}
    rows = []
    for name, mine in results.groupby("variant", sort=False):
        row = {"variant": name, "parameters": mine["parameters"].iloc[0], "runs": _runs(study, len(mine))}
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


def _verdict(comparison: Comparison) -> str:
    interim = any(note.startswith("Interim") for note in comparison.notes)
    return f"{comparison.verdict} (interim)" if interim else comparison.verdict


def _runs(study: Study, done: int) -> int | str:
    wanted = len(study.folds) * len(study.seeds)
    return done if done == wanted else f"{done} of {wanted}"


def shown(frame: pd.DataFrame) -> pd.DataFrame:
    """A table as people read it: numbers rounded to what they mean, missing ones a dash, all as text."""
    if frame.empty:
        return pd.DataFrame({"": ["Nothing of this has been trained."]})

    def text(column: str, value: object) -> str:
        if pd.isna(value):
            return "–"
        if isinstance(value, (bool, str)) or not isinstance(value, (int, float)):
            return str(value)
        digits = 0 if float(value).is_integer() and column in ("parameters", "runs", "folds", "seeds") else 1
        return f"{value:,.{3 if column in ('p', 'p (Holm)') else digits}f}"

    cells = {c: [text(c, v) for v in frame[c].tolist()] for c in frame}
    return pd.DataFrame(cells).rename(columns=lambda c: c.replace("_", " "))


def save_table(frame: pd.DataFrame, name: str, caption: str, folder: str | Path | None = None) -> list[Path]:
    """Write a table as LaTeX (booktabs), markdown and CSV into figures/; returns the files."""
    files = tex, markdown, csv = [output_folder(folder) / f"{name}.{kind}" for kind in ("tex", "md", "csv")]
    table = shown(frame)
    escape = str.maketrans({"_": r"\_", "%": r"\%", "&": r"\&", "#": r"\#", "–": "--"})
    latex = table.map(lambda s: s.translate(escape)).rename(columns=lambda c: c.translate(escape))
    options = dict(hrules=True, caption=caption.translate(escape), label=f"tab:{name}", position="t")
    latex.style.hide(axis="index").to_latex(tex, encoding="utf-8", **options)
    lines = [list(table.columns), ["---"] * len(table.columns), *table.to_numpy().tolist()]
    text = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    markdown.write_text(f"{text}\n\n{caption}\n", encoding="utf-8")
    frame.to_csv(csv, index=False)
    return files


def publish(study: Study, path: str | Path) -> int:
    """Write `study.publishable()` as CSV, whole or not at all; returns the number of runs. MmerError if it cannot."""
    frame, file = study.publishable(), Path(os.path.abspath(os.path.expanduser(path)))
    if frame.empty:
        raise MmerError(f"{study!r}: nothing to publish; train something first (python -m mmer_core run)")
    scratch = file.parent / f".{file.name}-{os.getpid()}"
    try:
        scratch.write_text(frame.to_csv(index=False, lineterminator="\n"), encoding="utf-8", newline="")
        os.replace(scratch, file)
    except OSError as error:
        raise MmerError(f"{file}: expected a place for a CSV file, found: {error.strerror}") from None
    finally:
        with contextlib.suppress(OSError):
            scratch.unlink()
    return len(frame)
