"""All pairs of variants, and which variant is best, within what can be said."""

import itertools
import re
from collections.abc import Sequence
from typing import NamedTuple

import pandas as pd

from mmer_core.errors import MmerError
from mmer_core.stats.compare import Difference
from mmer_core.stats.effects import holm

COLUMNS = ["first", "second", "points", "95% low", "95% high", "p", "p (Holm)", "verdict", "exploratory"]
MODALITIES = re.compile(r"[a-z]+_([tva]+)(_.*)?")  # of a name such as self_tva or cross_ta_nosp


class NotShownWorse(NamedTuple):
    """Which variant is best, within what can be said."""

    variants: list[str]  # those that none is shown better than
    worse: dict[str, list[str]]  # every other one, and which are shown better than it
    missing: list[tuple[str, str]]  # pairs that were not compared
    sentence: str


def all_pairs(comparisons: Sequence[Difference]) -> pd.DataFrame:
    """A row a pair of variants, second minus first, with Holm's p over the pairs.

    Columns: first, second, points, "95% low", "95% high", p, "p (Holm)", verdict (as of this pair by itself, not
    corrected), exploratory ("yes", "no"). MmerError unless all have the same metric and margin, and no pair is there
    twice.
    """
    _refuse(comparisons)
    rows = []
    for c in comparisons:
        points = [100 * x for x in (c.difference, *c.interval95)]
        rows.append([c.first, c.second, *points, c.p, 0.0, c.verdict, "yes" if c.exploratory else "no"])
    table = pd.DataFrame(rows, columns=COLUMNS)
    return table.assign(**{"p (Holm)": holm(table["p"])})


def not_shown_worse(comparisons: Sequence[Difference], variants: Sequence[str] = ()) -> NotShownWorse:
    """The variants that no other one is shown better than: Holm's p below 5% over all pairs.

    The truly best is among them with a probability of 95% or more, as far as Holm's over valid tests holds: it is out
    only if some pair's direction is got wrong (proved by Shaffer, Annals of Statistics 8, 1980, for independent tests;
    simulated in our tests for these). Few folds or seeds show little, and all may be left: it then cannot be told.

    Args:
        variants: all there are, if some may lack comparisons; without a comparison nothing is shown of a variant.
    """
    table = all_pairs(comparisons)
    names = variants_of(comparisons, variants)
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
        best = f"The best is among {_some(left)}" if len(left) > 1 else f"Only {left[0]} may be the best"
        text.append(
            f"{best}, with an error of at most 5%: every other one is shown worse than some variant ({tested})."
        )
        text += _about_modalities(left, list(worse))
    alone = [
        name for name in left if all(name not in pair for pair in zip(table["first"], table["second"], strict=True))
    ]
    if alone:
        text.append(f"Nothing is known of {_some(alone)}: not compared, and so not ruled out.")
    open_pairs = [f"{a} with {b}" for a, b in missing if not {a, b} & set(alone)]
    if open_pairs:
        text.append(f"Not compared: {_some(open_pairs)}.")
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
    ruled = f"every variant of {_some(out)} is shown worse than some other"
    many = (
        f"The best set of modalities is among {_some(possible)}"
        if len(possible) > 1
        else f"The best set of modalities is {possible[0]}"
    )
    return [f"{many}: {ruled}."]


def _some(names: Sequence[str]) -> str:
    return ", ".join(names)


def _refuse(comparisons: Sequence[Difference]) -> None:
    """MmerError for what is no table of pairs."""
    if not isinstance(comparisons, Sequence) or not all(isinstance(c, Difference) for c in comparisons):
        raise MmerError("expected a list of comparisons, a pair of variants each")
    seen = set()
    for c in comparisons:
        if (c.metric, c.rope) != (comparisons[0].metric, comparisons[0].rope):
            one = f"{comparisons[0].metric} and a margin of {comparisons[0].rope:g}"
            raise MmerError(f"{c.second} - {c.first}: expected {one}, found {c.metric} and {c.rope:g}")
        if (pair := frozenset((c.first, c.second))) in seen:
            raise MmerError(f"{c.first} and {c.second} are compared twice; one verdict a pair")
        seen.add(pair)
