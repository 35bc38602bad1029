"""The panel of notebook 05: any two variants, and what each modality adds."""

from functools import partial
from html import escape

from mmer_core import analyses, figures
from mmer_core.stats import cautions, side_by_side
from mmer_core.study import Study
from mmer_core.typeset import variants_named
from mmer_core.widgets.kit import Panel, Picture, Shown, View, choice, table
from mmer_core.widgets.pickers import metric_choice, remember, remembered, rows


def comparison_panel(study: Study) -> Panel:
    """Choose two variants and a metric; see paired scores, the difference with its interval, and the verdict."""
    names = list(dict.fromkeys(study.results()["variant"]))
    if len(names) < 2 or study.margin is None:
        need = "A verdict needs two variants that are trained, and a margin declared in the study."
        view = View(saves=0)
        view.follow([], lambda: partial(Shown, f"{need} {variants_named(escape(study.progress()))}"))
        return Panel([], view)
    named = [(variants_named(name), name) for name in names]
    sides = zip(("first", "second"), analyses.two(study), strict=True)
    first, second = (choice(side, named, value=name, width="16em") for side, name in sides)
    metric, view = metric_choice(study), View()

    def react() -> partial[Shown]:
        return partial(comparison_shown, study, first.value, second.value, metric.value)

    view.follow((first, second, metric), react)
    return Panel([rows(first, second, metric)], view, partial(all_verdicts, study))


def all_verdicts(study: Study) -> str:
    """The verdict on every pair, folded up."""
    frame = analyses.all_pairs(study).frame
    shown = ["first", "second", "points", "95% low", "95% high", "p (Holm)", "verdict", "exploratory"]
    pairs = table(frame[shown], first=variants_named, second=variants_named, **{"p (Holm)": "{:.3f}"})
    return f"<details><summary>All {len(frame)} pairs, second minus first, in points</summary>{pairs}</details>"


def comparison_shown(study: Study, first: str, second: str, metric: str) -> Shown:
    """The verdict on two variants with what to beware of, their runs in pairs, and what other methods say."""
    comparison = study.comparison(first, second, metric)
    verdict, rest = escape(comparison.sentence()).split(":", 1)
    notes = "".join(f"<br>{escape(note)}" for note in (*comparison.notes, *cautions(comparison)))
    tests = side_by_side(comparison).rename(columns={"estimate": "points", "keeps_level": "wrong in 5% at most"})
    kept = {True: "yes", False: "no"}.get
    others = table(tests, points=_points, interval=_points, p="{:.3f}", **{"wrong in 5% at most": kept})
    draw = partial(figures.paired, comparison, study.corpus.title)
    picture = Picture(f"paired_{first}_{second}_{metric}", draw, f"paired scores of {first} and {second}")
    message = f"<b>{verdict}</b>:{rest}{notes}{_looked_at(study, comparison)}"
    return Shown(variants_named(message), [picture], others)


def _looked_at(study: Study, comparison) -> str:
    """How many comparisons that nobody declared have been looked at in panels on this ledger, this one included."""
    looked = {tuple(pair) for pair in remembered(study).get("looked", [])}
    if comparison.exploratory:
        looked.add((*sorted((comparison.first, comparison.second)), comparison.metric))
        remember(study, looked=sorted(looked))
    many = "1 comparison" if len(looked) == 1 else f"{len(looked)} comparisons"
    told = f"<br>{many} that were not declared have been looked at here: by chance alone one in twenty would look"
    return f"{told} different." if looked else ""


def _points(x: float | tuple[float, float]) -> str:
    """A difference or an interval in points, on one line."""
    return "\u00a0to\u00a0".join(f"{100 * y:+.1f}" for y in (x if isinstance(x, tuple) else (x,)))
