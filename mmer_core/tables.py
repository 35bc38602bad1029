"""Tables for a paper, and the bundle: every figure and table of a study, written to figures/."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from mmer_core import figures
from mmer_core.explain import explain
from mmer_core.metrics import PUBLISHED_NAMES, SOURCE, published_results
from mmer_core.paths import root
from mmer_core.stats import compare
from mmer_core.study import Study

PAIRS = [("self_tv", "cross_tv"), ("self_ta", "cross_ta"), ("self_va", "cross_va"), ("self_tva", "cross_tva")]
REMINDER = (
    "Figures of a licensed corpus may show its transcripts, and a ledger holds its utterance ids and labels: "
    "look at the licence before you share either."
)


def results_table(study: Study) -> pd.DataFrame:
    """One row a variant: parameters, runs, and for both scores (per cent) the mean, SD over folds and SD over seeds.

    SD over folds: of the means over seeds. SD over seeds: within a fold, pooled over folds; needs two seeds. The last
    columns are the numbers published for IEMOCAP (source: `metrics.SOURCE`), under the field's names.
    """
    results, published = study.results(), published_results().set_index("variant")
    rows = []
    for name, mine in results.groupby("variant", sort=False):
        row = {"variant": name, "parameters": mine["parameters"].iloc[0], "runs": len(mine)}
        for metric in ("accuracy", "balanced_accuracy"):
            by_fold = mine.groupby("fold")[metric]
            row |= {
                metric: 100 * mine[metric].mean(),
                f"{metric}: SD folds": 100 * by_fold.mean().std(),
                f"{metric}: SD seeds": 100 * (by_fold.var().mean() ** 0.5),
            }
        for metric in ("accuracy", "balanced_accuracy"):
            known = name in published.index
            row[f"published {metric}"] = 100 * published.loc[name, metric] if known else float("nan")
        rows.append(row)
    return pd.DataFrame(rows)


def comparison_table(study: Study, pairs: list[tuple[str, str]] = PAIRS) -> pd.DataFrame:
    """Verdicts on those pairs of variants that have been trained, by the study's metric and margin, in points."""
    results = study.results()
    trained = set(results["variant"])
    rows = []
    for first, second in pairs:
        if {first, second} <= trained:
            c = compare(results, first, second, study.primary_metric, rope=study.margin)
            low, high = c.interval95
            rows.append(
                {"first": first, "second": second, "metric": c.metric, "second - first": 100 * c.difference}
                | {"95% low": 100 * low, "95% high": 100 * high, "p": c.p, "margin": 100 * c.rope, "verdict": c.verdict}
            )
    return pd.DataFrame(rows)


def save_table(frame: pd.DataFrame, name: str, caption: str, folder: str | Path | None = None) -> list[Path]:
    """Write a table as LaTeX (booktabs) and CSV into figures/; returns the files."""
    folder = Path(folder) if folder else root() / "figures"
    folder.mkdir(parents=True, exist_ok=True)
    tex, csv = folder / f"{name}.tex", folder / f"{name}.csv"
    shown = frame.rename(columns=lambda c: c.replace("_", " ").replace("%", r"\%"))
    numbers = {
        c: ("{:,.0f}" if c in ("parameters", "runs") else "{:.3f}" if c == "p" else "{:.1f}").format
        for c in shown.select_dtypes("number")
    }
    style = (
        shown.style.hide(axis="index")
        .format(numbers, na_rep="--")
        .format(lambda s: str(s).replace("_", r"\_"), subset=list(shown.select_dtypes(exclude="number")))
    )
    tex.write_text(
        style.to_latex(
            hrules=True, caption=caption.replace("_", r"\_").replace("%", r"\%"), label=f"tab:{name}", position="t"
        ),
        encoding="utf-8",
    )
    frame.to_csv(csv, index=False)
    return [tex, csv]


def export(study: Study, folder: str | Path | None = None) -> list[Path]:
    """Write all figures and tables of what the ledger holds of this study; returns the files.

    Raises:
        ValueError: if nothing of the study has been trained yet.
    """
    results, curves, corpus = study.results(), study.learning_curves(), study.corpus
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
    drawn["learning_curves"] = figures.learning_curves(curves, best, title)
    for name in best:
        drawn[f"confusion_{name}"] = figures.confusion(study.confusion(name), corpus.classes, f"{name}, {title}")
        run = results[results["variant"] == name].iloc[0]
        row = int(corpus.folds[run["fold"]].test[0])
        found = explain(study.model(name, run["fold"], run["seed"]), corpus, row, run["fold"])
        for block in list(found.maps)[:1]:
            where = f"{name}, fold {run['fold']}, seed {run['seed']}, {found.id}"
            heading = f"{where}: {found.label}, block {block}, mean of heads\n{title}"
            drawn[f"attention_{name}"] = figures.attention_map(found.maps[block], None, heading)
    note = f"{title}. Published numbers: IEMOCAP; {SOURCE}."
    names = "; ".join(f"{ours} is the paper's {theirs[0]}" for ours, theirs in PUBLISHED_NAMES.items() if "acc" in ours)
    files = save_table(results_table(study), "results", f"Test scores in %: {names}. {note}", folder)
    if study.margin is not None:
        verdicts = comparison_table(study)
        for _, c in verdicts.iterrows():
            comparison = compare(results, c["first"], c["second"], study.primary_metric, rope=study.margin)
            drawn[f"paired_{c['first']}_{c['second']}"] = figures.paired(comparison, title)
        if len(verdicts):
            files += save_table(verdicts, "comparisons", f"Differences in points. {title}.", folder)
    for name, fig in drawn.items():
        files += figures.save_figure(fig, name, folder)
    return files
