"""Tables for a paper, and the bundle: every figure and table of a study, written to figures/."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from mmer_core import figures, stats
from mmer_core.explain import explain
from mmer_core.metrics import PUBLISHED_NAMES, SOURCE, published_results
from mmer_core.paths import root
from mmer_core.study import Study

SCORES = ("accuracy", "balanced_accuracy")
REMINDER = (
    "Figures of a licensed corpus may show its transcripts, and a ledger holds its utterance ids and labels: "
    "look at the licence before you share either."
)


def comparisons(study: Study, pairs: Iterable[tuple[str, str]] = stats.PAIRS) -> list[stats.Comparison]:
    """The comparisons of those pairs that have been trained, by the metric and margin that the study declares.

    Raises:
        ValueError: if the study declares no margin.
    """
    if study.margin is None:
        raise ValueError("a verdict needs a margin: declare it in the study before the runs")
    return stats.family(study.results(), study.primary_metric, study.margin, list(pairs), study.exploratory())


def results_table(study: Study) -> pd.DataFrame:
    """One row a variant: parameters, runs, and for both scores (per cent) the mean, SD over folds and SD over seeds.

    SD over folds: of the means over seeds. SD over seeds: within a fold, pooled over folds; needs two seeds. Then the
    verdict of cross- against self-attention on the same modalities, where the study declares a margin. The last columns
    are the numbers published for IEMOCAP (source: `metrics.SOURCE`), under the field's names.
    """
    results, published = study.results(), published_results().set_index("variant")
    verdicts = {c.second: c.verdict for c in comparisons(study)} if study.margin and len(study.folds) > 2 else {}
    rows = []
    for name, mine in results.groupby("variant", sort=False):
        row = {"variant": name, "parameters": mine["parameters"].iloc[0], "runs": len(mine)}
        for metric in SCORES:
            by_fold = mine.groupby("fold")[metric]
            row |= {
                metric: 100 * mine[metric].mean(),
                f"{metric}: SD folds": 100 * by_fold.mean().std(),
                f"{metric}: SD seeds": 100 * (by_fold.var().mean() ** 0.5),
            }
        row["against self"] = verdicts.get(name, "")
        for metric in SCORES:
            known = name in published.index
            row[f"published {metric}"] = 100 * published.loc[name, metric] if known else float("nan")
        rows.append(row)
    return pd.DataFrame(rows)


def shown(frame: pd.DataFrame) -> pd.DataFrame:
    """A table as people read it: numbers rounded to what they mean, missing ones a dash, all as text."""

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
    folder = Path(folder) if folder else root() / "figures"
    folder.mkdir(parents=True, exist_ok=True)
    files = tex, markdown, csv = [folder / f"{name}.{kind}" for kind in ("tex", "md", "csv")]
    table = shown(frame)
    escape = dict.fromkeys("_%&#", None)
    escape = str.maketrans({c: f"\\{c}" for c in escape} | {"–": "--"})
    latex = table.map(lambda s: s.translate(escape)).rename(columns=lambda c: c.translate(escape))
    style = latex.style.hide(axis="index")
    options = dict(hrules=True, caption=caption.translate(escape), label=f"tab:{name}", position="t")
    tex.write_text(style.to_latex(**options), encoding="utf-8")
    lines = [list(table.columns), ["---"] * len(table.columns), *table.to_numpy().tolist()]
    text = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    markdown.write_text(f"{text}\n\n{caption}\n", encoding="utf-8")
    frame.to_csv(csv, index=False)
    return files


def export(study: Study, folder: str | Path | None = None) -> list[Path]:
    """Write all figures and tables of what the ledger holds of this study; returns the files.

    Raises:
        ValueError: if nothing of the study has been trained yet.
    """
    results, corpus = study.results(), study.corpus
    if results.empty:
        raise ValueError(f"{study!r}: train something first (python -m mmer_core run)")
    title = corpus.title
    drawn = {
        "corpus_classes": figures.class_sizes(corpus),
        "corpus_folds": figures.fold_sizes(corpus),
        "corpus_lengths": figures.lengths(corpus),
        "scores": figures.scores(results, corpus),
    }
    best = [v for v in ("self_tva", "cross_tva") if v in set(results["variant"])] or [results["variant"].iloc[0]]
    drawn["learning_curves"] = figures.learning_curves(study.learning_curves(), best, title)
    for name in best:
        drawn[f"confusion_{name}"] = figures.confusion(study.confusion(name), corpus.classes, f"{name}, {title}")
        run = results[results["variant"] == name].iloc[0]
        found = explain(
            study.model(name, run["fold"], run["seed"]), corpus, int(corpus.folds[run["fold"]].test[0]), run["fold"]
        )
        block = next(iter(found.maps.values()))
        where = f"{name}, fold {run['fold']}, seed {run['seed']}, {found.id}"
        heading = f"{where}: {found.label}\nblock {block.block}, mean of heads, {title}"
        drawn[f"attention_{name}"] = figures.attention_map(block, None, heading)
    names = "; ".join(f"{ours} is the paper's {PUBLISHED_NAMES[ours][0]}" for ours in SCORES)
    note = f"{title}. Published numbers: IEMOCAP; {SOURCE}."
    files = save_table(results_table(study), "results", f"Test scores in %: {names}. {note}", folder)
    if study.margin is not None and (found := comparisons(study)):
        drawn["forest"] = figures.forest(found, title)
        drawn |= {f"paired_{c.first}_{c.second}": figures.paired(c, title) for c in found}
        files += save_table(stats.verdict_table(found), "comparisons", f"Differences in points. {title}.", folder)
        report = files[0].parent / "report.txt"
        report.write_text(stats.prose(found, title) + "\n", encoding="utf-8")
        files.append(report)
    for name, fig in drawn.items():
        files += figures.save_figure(fig, name, folder)
    return files
