"""The paper's answer: verdicts for every set of modalities, and a report that never says more than they allow."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from mmer_core.stats.compare import Comparison, compare
from mmer_core.stats.effects import holm

PAIRS = [("self_tv", "cross_tv"), ("self_ta", "cross_ta"), ("self_va", "cross_va"), ("self_tva", "cross_tva")]


def family(
    frame: pd.DataFrame, metric: str, rope: float, pairs: Sequence[tuple[str, str]] = PAIRS, exploratory: str = ""
) -> list[Comparison]:
    """The comparisons of those pairs that the frame holds: by default self against cross for each set of modalities.

    Any other pairs than these were picked by hand, and are stamped exploratory.
    """
    known = set(frame["variant"])
    reason = exploratory or ("" if set(pairs) <= set(PAIRS) else "the comparison was picked by hand")
    return [
        compare(frame, first, second, metric, rope=rope, exploratory=reason)
        for first, second in pairs
        if {first, second} <= known
    ]


def verdict_table(comparisons: Sequence[Comparison]) -> pd.DataFrame:
    """A row a comparison: points, ends of both intervals, p, Holm's p over the rows, verdict, and its stamp."""
    table = pd.DataFrame(
        {
            "comparison": f"{c.second} - {c.first}",
            "points": 100 * c.difference,
            "95% low": 100 * c.interval95.low,
            "95% high": 100 * c.interval95.high,
            "90% low": 100 * c.interval90.low,
            "90% high": 100 * c.interval90.high,
            "p": c.p,
            "verdict": c.verdict,
            "beyond the margin": "yes" if c.exceeds_margin else "no",
            "exploratory": "yes" if c.exploratory else "no",
        }
        for c in comparisons
    )
    if len(table):
        table.insert(7, "p (Holm)", holm(table["p"]))
    return table


def prose(comparisons: Sequence[Comparison], corpus: str) -> str:
    """A short report in words, a line a sentence.

    "Comparable in all sets" needs every single verdict to be equivalent or negligible: as an intersection of claims it
    needs no correction (intersection-union test). A difference anywhere is corrected by Holm over the sets.
    """
    if not comparisons:
        return f"On the {corpus}, no pair of self- and cross-attention variants has been trained."
    metric, rope, n = comparisons[0].metric, comparisons[0].rope, len(comparisons)
    table = verdict_table(comparisons)
    folds, seeds = comparisons[0].pairs["fold"].nunique(), comparisons[0].pairs["seed"].nunique()
    text = [
        f"On the {corpus}, with {folds} folds and {seeds} seed{'s' if seeds > 1 else ''}, {metric} as primary metric "
        f"and a margin of {100 * rope:g} points:"
    ]
    text += [c.sentence() for c in comparisons]
    close = [v in ("equivalent", "negligible") for v in table["verdict"]]
    apart = table[table["verdict"].isin(["different", "negligible"])]
    sets = f"all {n} sets of modalities" if n > 1 else "this set of modalities"
    if all(close):
        text.append(f"Self- and cross-attention are comparable within the margin in {sets}.")
    elif any(close):
        text.append(
            f"They are comparable within the margin in {sum(close)} of {n} sets of modalities, and not shown to be so "
            "in the others."
        )
    else:
        text.append("That they are comparable is not shown for any set of modalities.")
    if len(apart):
        sure = int((apart["p (Holm)"] < 0.05).sum())
        text.append(f"Of {len(apart)} excluded zeros, {sure} remain after Holm's correction over the sets.")
    else:
        text.append("Nor is a difference shown for any.")
    if seeds < 5:
        text.append("With so few seeds the scatter of training is hardly known.")
    return "\n".join(text)
