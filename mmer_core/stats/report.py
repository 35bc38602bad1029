"""The paper's answer: verdicts for sets of modalities or all pairs of variants, and reports that never say too much."""

import itertools
import re
from collections.abc import Sequence
from typing import NamedTuple

import pandas as pd

from mmer_core.errors import MmerError
from mmer_core.stats.compare import Comparison, Difference
from mmer_core.stats.effects import corrected

COLUMNS = ["first", "second", "points", "95% low", "95% high", "p", "verdict", "exploratory"]
TOLD = re.compile("^(Interim|This split|No run of)|is a point")  # notes that no report leaves out
MODALITIES = re.compile(r"[a-z]+_([tva]+)(_.*)?")  # of a name such as self_tva or cross_ta_nosp


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
    return corrected(rows, columns)


def prose(comparisons: Sequence[Difference], corpus: str, still_open: int = 0) -> str:
    """A short report in words, a line a sentence.

    "Comparable in all sets" needs every single verdict to be equivalent or negligible: as an intersection of claims it
    needs no correction (intersection-union test). A difference anywhere is corrected by Holm over the sets. Declared
    comparisons that cannot be judged yet, `still_open` of them, count as not shown.
    """
    if not comparisons:
        return f"On the {corpus}, no declared comparison has been trained."
    first, n = comparisons[0], len(comparisons)
    metric = first.metric.partition(",")[0]
    design = f"with {first.design}" if isinstance(first, Comparison) else "on this split only"
    primary = "primary " if isinstance(first, Comparison) else ""
    text = [f"On the {corpus}, {design}, {metric} as {primary}metric and a margin of {100 * first.rope:g} points:"]
    text += [c.sentence() for c in comparisons]
    text += dict.fromkeys(note for c in comparisons for note in c.notes if TOLD.search(note))
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
    apart = table.loc[table["verdict"].isin(["different", "negligible"]), "p (Holm)"]
    over = f"the {many.split()[0]}{' judged so far' if still_open else ''}"
    sure = f"Of {len(apart)} excluded zeros, {(apart < 0.05).sum()} remain after Holm's correction over {over}."
    text.append(sure if len(apart) else "Nor is a difference shown for any.")
    if isinstance(first, Comparison) and min(first.seeds) < 5:
        text.append("With so few seeds the scatter of training is hardly known.")
    return "\n".join(text)


class NotShownWorse(NamedTuple):
    """Which variant is best, within what can be said."""

    variants: list[str]  # those that none is shown better than
    worse: dict[str, list[str]]  # every other one, and which are shown better than it
    missing: list[tuple[str, str]]  # pairs that were not compared
    sentence: str


def all_pairs(comparisons: Sequence[Difference]) -> pd.DataFrame:
    """A row a pair of variants, second minus first, with Holm's p over the pairs.

    Columns: first, second, points, "95% low", "95% high", p, "p (Holm)", verdict (of this pair by itself, uncorrected),
    exploratory ("yes", "no"). MmerError unless all have the same metric and margin, and no pair is there twice.
    """
    if not isinstance(comparisons, Sequence) or not all(isinstance(c, Difference) for c in comparisons):
        raise MmerError("expected a list of comparisons, a pair of variants each")
    rows, seen = [], set()
    for c in comparisons:
        if (c.metric, c.rope) != (comparisons[0].metric, comparisons[0].rope):
            one = f"{comparisons[0].metric} and a margin of {comparisons[0].rope:g}"
            raise MmerError(f"{c.second} - {c.first}: expected {one}, found {c.metric} and {c.rope:g}")
        if (pair := frozenset((c.first, c.second))) in seen:
            raise MmerError(f"{c.first} and {c.second} are compared twice; one verdict a pair")
        seen.add(pair)
        points = [100 * x for x in (c.difference, *c.interval95)]
        rows.append([c.first, c.second, *points, c.p, c.verdict, "yes" if c.exploratory else "no"])
    return corrected(rows, COLUMNS)


def not_shown_worse(comparisons: Sequence[Difference], variants: Sequence[str] = ()) -> NotShownWorse:
    """The variants that no other one is shown better than: Holm's p below 5% over all pairs.

    The truly best is among them with a probability of 95% or more, as far as Holm's over valid tests holds: it is out
    only if some pair's direction is got wrong (proved by Shaffer, Annals of Statistics 8, 1980, for independent tests;
    simulated in our tests for these). Few folds or seeds show little, and all may be left: it then cannot be told.
    `variants` are all there are, if some may lack comparisons; without a comparison nothing is shown of a variant.
    """
    table, names = all_pairs(comparisons), variants_of(comparisons, variants)
    if len(names) < 2:
        raise MmerError(f"which variant is best is a question about two or more; got {names}")
    worse: dict[str, list[str]] = {}
    for row in table[table["p (Holm)"] < 0.05].itertuples():
        loser, winner = (row.first, row.second) if row.points > 0 else (row.second, row.first)
        worse.setdefault(loser, []).append(winner)
    compared = {frozenset((c.first, c.second)) for c in comparisons}
    missing = [pair for pair in itertools.combinations(names, 2) if frozenset(pair) not in compared]
    left = [name for name in names if name not in worse]
    return NotShownWorse(left, worse, missing, _sentence(left, worse, missing, table))


def variants_of(comparisons: Sequence[Difference], more: Sequence[str] = ()) -> list[str]:
    """Of `more` and the comparisons, in the order in which they come first. MmerError for names that are no list."""
    if isinstance(more, str) or not all(isinstance(name, str) for name in more):
        raise MmerError(f"variants is a list of names; got {more!r}")
    return list(dict.fromkeys([*more, *(name for c in comparisons for name in (c.first, c.second))]))


def _sentence(left: list[str], worse: dict[str, list[str]], missing: list[tuple[str, str]], table: pd.DataFrame) -> str:
    """The set in words that claim no more than it does."""
    n, text = len(left) + len(worse), []
    tested = f"Holm's 5% over {len(table)} pair{'s' if len(table) != 1 else ''}"
    if not worse:
        text.append(f"Which of the {n} variants is best cannot be told: none is shown worse than another ({tested}).")
    else:
        best = f"The best is among {', '.join(left)}" if len(left) > 1 else f"Only {left[0]} may be the best"
        every = f"every other one is shown worse than some variant ({tested})"
        text += [f"{best}, with an error of at most 5%: {every}.", *_about_modalities(left, list(worse))]
    if alone := [name for name in left if name not in {*table["first"], *table["second"]}]:
        text.append(f"Nothing is known of {', '.join(alone)}: not compared, and so not ruled out.")
    if open_pairs := [f"{a} with {b}" for a, b in missing if not {a, b} & set(alone)]:
        text.append(f"Not compared: {', '.join(open_pairs)}.")
    if exploratory := int((table["exploratory"] == "yes").sum()):
        text.append(f"Exploratory: {exploratory} of {len(table)} pairs were not declared before the runs.")
    return " ".join(text)


def _about_modalities(left: list[str], worse: list[str]) -> list[str]:
    """The same of the sets of modalities; nothing where a name does not tell them."""
    found = {name: MODALITIES.fullmatch(name) for name in (*left, *worse)}
    sets = {name: match[1] for name, match in found.items() if match}
    if len(sets) < len(found) or len(set(sets.values())) == 1:
        return []
    possible = list(dict.fromkeys(sets[name] for name in left))
    out = [m for m in dict.fromkeys(sets[name] for name in worse) if m not in possible]
    if not out:
        return ["No set of modalities is ruled out."]
    best = f"among {', '.join(possible)}" if len(possible) > 1 else possible[0]
    ruled = f"every variant of {', '.join(out)} is shown worse than some other"
    return [f"The best set of modalities is {best}: {ruled}."]
