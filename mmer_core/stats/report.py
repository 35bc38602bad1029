"""The paper's answer: verdicts for every set of modalities, and a report that never says more than they allow."""

from collections.abc import Sequence

import pandas as pd

from mmer_core.stats.compare import Comparison, Difference
from mmer_core.stats.effects import holm


def self_and_cross(comparison: Difference) -> bool:
    """Whether it is about self- and cross-attention, all else being the same, as the names of the variants say."""
    cross, by_itself = sorted((comparison.first, comparison.second))
    return by_itself.startswith("self_") and cross == by_itself.replace("self_", "cross_", 1)


def verdict_table(comparisons: Sequence[Difference]) -> pd.DataFrame:
    """A row a comparison: points, ends of both intervals, p, Holm's p over the rows, verdict, and its stamp."""
    columns = ["comparison", "points", "95% low", "95% high", "90% low", "90% high", "p", "verdict"]
    columns += ["beyond the margin", "exploratory"]
    rows = []
    for c in comparisons:
        points = [100 * x for x in (c.difference, *c.interval95, *c.interval90)]
        answers = ["yes" if answer else "no" for answer in (c.exceeds_margin, c.exploratory)]
        rows.append([c.label.replace("−", "-"), *points, c.p, c.verdict, *answers])
    table = pd.DataFrame(rows, columns=columns)
    table.insert(7, "p (Holm)", holm(table["p"]))
    return table


def prose(comparisons: Sequence[Difference], corpus: str, still_open: int = 0) -> str:
    """A short report in words, a line a sentence.

    "Comparable in all sets" needs every single verdict to be equivalent or negligible: as an intersection of claims it
    needs no correction (intersection-union test). A difference anywhere is corrected by Holm over the sets. Declared
    comparisons that cannot be judged yet, `still_open` of them, count as not shown.
    """
    if not comparisons:
        return f"On the {corpus}, no declared comparison has been trained."
    first, n = comparisons[0], len(comparisons)
    metric, rope = first.metric.partition(",")[0], first.rope
    design, primary = "on this split only", ""
    if isinstance(first, Comparison):
        design, primary = f"with {first.design}", "primary "
    text = [f"On the {corpus}, {design}, {metric} as {primary}metric and a margin of {100 * rope:g} points:"]
    text += [c.sentence() for c in comparisons]
    text += dict.fromkeys(note for c in comparisons for note in c.notes if note.startswith(("Interim", "This split")))
    total = n + still_open
    modalities = {c.first.split("_")[1] for c in comparisons if self_and_cross(c)}
    if len(modalities) == n:  # the paper's question, put once for each set of modalities
        sides, one, many = "Self- and cross-attention", "set of modalities", "sets of modalities"
    else:
        splits = len({c.metric for c in comparisons}) > 1  # a row a pair and split
        one, many = ("pair on a split", "pairs on splits") if splits else ("pair", "pairs")
        sides = "The two variants"
    close = sum(c.verdict in ("equivalent", "negligible") for c in comparisons)
    if close == total:
        text.append(f"{sides} are comparable within the margin in {f'all {n} {many}' if n > 1 else f'this {one}'}.")
    elif close:
        shown = f"in {close} of {total} {many}, and not shown to be so in the others"
        text.append(f"They are comparable within the margin {shown}.")
    else:
        text.append(f"That they are comparable is not shown for any {one}.")
    table = verdict_table(comparisons)
    apart = table[table["verdict"].isin(["different", "negligible"])]
    if len(apart):
        so_far = " judged so far" if still_open else ""
        sure, what = int((apart["p (Holm)"] < 0.05).sum()), many.split()[0]
        text.append(f"Of {len(apart)} excluded zeros, {sure} remain after Holm's correction over the {what}{so_far}.")
    else:
        text.append("Nor is a difference shown for any.")
    if isinstance(first, Comparison) and min(first.seeds) < 5:
        text.append("With so few seeds the scatter of training is hardly known.")
    return "\n".join(text)
