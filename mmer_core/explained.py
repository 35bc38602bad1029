"""What notebook 04 says of all test utterances: tables and pictures of the checks that `explain` files.

Both variants of the main comparison; quick checks of all seeds, slow ones of the first. Like `analyses`, each makes a
table or a picture, or says in an MmerError why it cannot yet.
"""

from collections.abc import Callable

import pandas as pd
from matplotlib.figure import Figure

from mmer_core import figures, stats
from mmer_core.analyses import two
from mmer_core.errors import MmerError
from mmer_core.explain import filed
from mmer_core.explain.across import TIME, over_folds, stability
from mmer_core.explain.truth import CHECKS as RATED
from mmer_core.explain.weights import block_name
from mmer_core.study import Study
from mmer_core.tables import Table

QUICK = ("attended", "words")  # of all seeds
SLOW = ("blocks", "deletions", "input deletions", "randomised", "reliance")  # of the first seed
TRUTH = ("truth", "truth, untrained")  # where something was planted
MISLED = "truth, shuffled labels"  # shown where it is filed: every network of it is trained anew
BLOCK = ["variant", "block"]
DELETED = {  # rows of panels, with the checks in each; as many keys are random as are highest or lowest
    "without the highest keys": ("top", "random", "matched"),
    "without the lowest keys": ("bottom", "random"),
    "with only the highest keys": ("keep",),
}
AGREEMENT = 0.5  # with leave-one-out, the least that the rule asks for
MOST_WORDS, OFTEN = 12, 5


def compute(study: Study, progress: bool = True) -> str:
    """Compute all that is shown here and not filed yet; returns what there is in words, or why it cannot be yet."""
    try:
        tasks = [task for what in (*QUICK, *SLOW, *_planted(study)) for task in _tasks(study, what)]
        filed.compute(study, tasks, progress)
    except MmerError as error:
        return f"Not yet: {error}"
    names = " and ".join(two(study))
    return (
        f"{len(tasks)} checks of {names} are filed beside the ledger; those that are slow are of seed {study.seeds[0]}."
    )


def _planted(study: Study) -> tuple[str, ...]:
    return TRUTH if any(name.startswith("planted") for name in study.corpus.arrays) else ()


def _tasks(study: Study, what: str) -> list[filed.Task]:
    return filed.tasks_of(study, what, two(study), study.seeds if what in QUICK else study.seeds[:1])


def _read(study: Study, what: str) -> pd.DataFrame:
    return filed.read(study, _tasks(study, what))


def _by_folds(study: Study, frame: pd.DataFrame, by: list[str], value: str = "value") -> pd.DataFrame:
    return over_folds(frame, by, study.corpus, value)


def _table(study: Study, frame: pd.DataFrame, what: str) -> Table:
    return Table(frame, f"{what}. {study.corpus.title}.")


def _named(frame: pd.DataFrame) -> pd.DataFrame:
    """Blocks in words."""
    return frame.assign(block=[block_name(b) if len(b) in (1, 3) else b for b in frame["block"]])


# ---------------------------------------------------------------------------------------- blocks, and across test parts


def block_values(study: Study) -> Table:
    """What each block gives to the decision: Shapley values, in logits."""
    frame = _read(study, "blocks").query("check == 'value'")
    table = _by_folds(study, frame, BLOCK).assign(what="Shapley value")
    what = "What each block gives to the class that the network names: Shapley values in logits, with 95% intervals"
    return _table(study, _spread(_named(table), BLOCK, "what"), what)


def weights_over_time(study: Study) -> Figure:
    """Where weights lie over normalised time, by class, with intervals over folds."""
    frame = _read(study, "attended").melt(["variant", "fold", "block", "class"], TIME, "time", "weight")
    frame["time"] = frame["time"].map({name: (i + 0.5) / len(TIME) for i, name in enumerate(TIME)})
    means = _by_folds(study, frame, [*BLOCK, "class", "time"], "weight")
    return figures.weights_over_time(_named(means), study.corpus.title)


def attended_words(study: Study) -> Table:
    """The words that get most weight where text is asked, among those that stand often enough in test parts."""
    frame = _read(study, "words")
    if frame.empty:
        raise MmerError("no block of these variants asks text")
    frame["total"] = frame["n"] * frame["weight"]
    by_fold = frame.groupby(["variant", "word", "fold"], sort=False)[["n", "total"]].sum().reset_index()
    by_fold["weight"] = by_fold["total"] / by_fold["n"]
    weights = _told(_by_folds(study, by_fold, ["variant", "word"], "weight"), 2)
    share = frame.groupby("class")["n"].sum() / frame["n"].sum()
    rows = []
    for (variant, word), mine in frame.groupby(["variant", "word"], sort=False):
        by_class = mine.groupby("class")["n"].sum()
        lift = (by_class / by_class.sum() / share).dropna()
        blocks, seeds = mine["block"].nunique(), mine.groupby("block")["seed"].nunique().max()
        n = by_class.sum() / blocks / seeds
        rows.append((variant, word, n, lift.idxmax(), lift.max()))
    table = pd.DataFrame(rows, columns=["variant", "word", "n", "most often in", "times as often"])
    table = table.merge(weights.rename(columns={"told": "weight"}), on=["variant", "word"])
    table = table[table["n"] >= OFTEN].sort_values("mean", ascending=False, kind="stable")
    table = table.groupby("variant", sort=False).head(MOST_WORDS).sort_values("variant", kind="stable")
    what = f"Words with most weight (1: uniform; 95%), of those that stand {OFTEN} times or more in test parts"
    return _table(study, table[["variant", "word", "n", "weight", "most often in", "times as often"]], what)


def heads_and_seeds(study: Study) -> Table:
    """How sharp weights are, whether heads agree, and whether seeds agree more than utterances do."""
    frame = _read(study, "attended")
    parts = [_by_folds(study, frame, BLOCK, name).assign(what=name) for name in ("entropy", "agreement")]
    same = stability(frame)
    parts += [_by_folds(study, same, BLOCK, name).assign(what=name) for name in ("seeds", "utterances")]
    names = {"entropy": "entropy (1: uniform)", "agreement": "tau of heads", "seeds": "tau of seeds"}
    names["utterances"] = "tau of utterances"
    wide = _spread(_named(pd.concat(parts)), BLOCK, "what").rename(columns=names)
    return _table(study, wide, "Column means: entropy, and Kendall's tau between heads, seeds and utterances (95%)")


def _spread(frame: pd.DataFrame, rows: list[str], column: str, digits: int = 2) -> pd.DataFrame:
    """A row for each of `rows`, and "mean (low to high)" for each value of a column."""
    wide = frame if "told" in frame else _told(frame, digits)
    order = list(dict.fromkeys(wide[column]))
    return wide.pivot_table("told", rows, column, "first", sort=False)[order].reset_index().rename_axis(columns=None)


def _told(frame: pd.DataFrame, digits: int) -> pd.DataFrame:
    """Means with their intervals as text, in the column "told"."""
    cells = frame[["mean", "low", "high"]].round(digits).to_numpy() + 0.0  # no minus before a zero
    told = [f"{m:.{digits}f} ({a:.{digits}f} to {b:.{digits}f})" for m, a, b in cells]
    return frame.assign(told=[text.replace(" (nan to nan)", "").replace("nan", "–") for text in told])


# -------------------------------------------------------------------------------------------------------- causal checks


def explanation_rule(study: Study) -> Table:
    """May the maps of a block be called explanations? Four conditions, each with its interval over folds."""
    deleted, by = _read(study, "deletions"), [*BLOCK, "fold"]
    mine = deleted[deleted["measure"] == "weights"]
    lost = mine.pivot_table("value", by, "check", "mean", sort=False)
    tau = mine[mine["check"] == "tau"].set_index(by)["value"]
    seeds = stability(_read(study, "attended")).set_index(by)
    margins = {
        "top over matched": (100 * (lost["top"] - lost["matched"]), 0.0, 1),
        "tau with leave-one-out": (tau, AGREEMENT, 2),
        "tau of seeds over utterances": (seeds["seeds"] - seeds["utterances"], 0.0, 2),
    }
    learned = {name: _learned(study, name) for name in dict.fromkeys(mine["variant"])}
    answers: dict[tuple, list[str]] = {}
    parts = []
    for name, (values, least, digits) in margins.items():
        table = _by_folds(study, values.rename("value").reset_index(), BLOCK)
        parts.append(_told(table, digits).assign(what=name))
        for _, row in table.iterrows():
            answers.setdefault((row["variant"], row["block"]), []).append(_answer(row["low"], row["high"], least))
    wide = _spread(pd.concat(parts), BLOCK, "what")
    wide["learned over uniform"] = [learned[name][0] for name in wide["variant"]]
    said = [[*answers[row["variant"], row["block"]], learned[row["variant"]][1]] for _, row in wide.iterrows()]
    wide["explanation"] = ["no" if "no" in a else "open" if "open" in a else "yes" for a in said]
    what = "Whether maps may be called explanations: four conditions, all of them, with 95% intervals over folds"
    return _table(
        study, _named(wide), f"{what} (points of probability; Kendall's tau; points of {study.primary_metric})"
    )


def _answer(low: float, high: float, least: float) -> str:
    """Whether a condition holds, by the interval."""
    return "yes" if low > least else "no" if high < least else "open"


def _learned(study: Study, name: str) -> tuple[str, str]:
    """Is training with uniform attention worse? In words, with the answer."""
    uniform = name.replace(name.split("_")[0], "uniform", 1)
    try:
        c = study.comparison(uniform, name)
    except MmerError:
        return "no verdict", "open"
    points = (round(100 * x, 1) + 0.0 for x in (c.difference, *c.interval95))
    return "{:.1f} ({:.1f} to {:.1f})".format(*points), _answer(*c.interval95, 0.0)


def deletion_curves(study: Study) -> Figure:
    """What the named class loses without the keys that a measure ranks high or low, and with nothing but high ones."""
    frame = _read(study, "deletions")
    random = frame["check"].isin(["random", "matched"])
    frame["measure"] = frame["measure"].mask(random, frame["check"] + " keys")
    parts = [frame[frame["check"].isin(checks)].assign(what=what) for what, checks in DELETED.items()]
    means = _by_folds(study, pd.concat(parts), ["what", "variant", "measure", "share"])
    return figures.deletion_curves(means, f"mean over blocks, {study.corpus.title}")


def input_curves(study: Study) -> Figure:
    """The same where frames and words are set to zero."""
    frame = _read(study, "input deletions").assign(what="frames set to zero")
    means = _by_folds(study, frame, ["what", "variant", "measure", "share"])
    return figures.deletion_curves(means, f"mean over modalities, {study.corpus.title}")


def measures_checked(study: Study) -> Table:
    """Each measure of keys beside leave-one-out, and with the network's parameters drawn anew."""
    tau = _read(study, "deletions").query("check == 'tau'").assign(check="leave-one-out")
    drawn = pd.concat([tau, _read(study, "randomised")])
    wide = _spread(_by_folds(study, drawn, ["variant", "measure", "check"]), ["variant", "measure"], "check")
    what = "Kendall's tau of measures with leave-one-out, and with themselves in networks partly drawn anew"
    return _table(study, wide, f"{what}, mean over blocks (95%)")


def replaced_attention(study: Study) -> Table:
    """What other attention than its own costs a trained network."""
    frame = _read(study, "deletions").query("check == 'replaced'")
    own = frame[frame["measure"] == "none"].set_index(["variant", "fold"])["value"]
    change = frame.set_index(["variant", "fold"])["value"] - own
    frame = frame.assign(value=100 * change.to_numpy()).query("measure != 'none'")
    wide = _spread(_named(_by_folds(study, frame, [*BLOCK, "measure"])), BLOCK, "measure", 1)
    return _table(study, wide, "Change of balanced accuracy (points) with other attention at test time (95%)")


# --------------------------------------------------------------------------------------------------- modality reliance


def _changes(study: Study) -> pd.DataFrame:
    """Change of balanced accuracy in points, of each run."""
    frame = _read(study, "reliance")
    own = frame[frame["change"] == "none"].set_index(["variant", "fold", "seed"])["balanced_accuracy"]
    places = pd.MultiIndex.from_frame(frame[["variant", "fold", "seed"]])
    frame["value"] = 100 * (frame["balanced_accuracy"].to_numpy() - own.reindex(places).to_numpy())
    return frame[frame["change"] != "none"]


def modality_reliance(study: Study) -> Table:
    """What a missing or replaced modality costs, the variants side by side, and the verdict on their difference."""
    frame, names = _changes(study).query("change != 'noise'"), two(study)
    wide = _spread(_by_folds(study, frame, ["modality", "change", "variant"]), ["modality", "change"], "variant", 1)
    if study.margin is not None and len(names) == 2 and len(study.folds) > 2:
        places = wide[["modality", "change"]].to_numpy().tolist()
        wide["verdict"] = [_verdict(study, frame, names, *place) for place in places]
    return _table(study, wide, "Change of balanced accuracy (points) at test time, with 95% intervals over folds")


def _verdict(study: Study, frame: pd.DataFrame, names: list[str], modality: str, change: str) -> str:
    """Whether both variants lose as much, by the study's margin."""
    mine = frame[(frame["modality"] == modality) & (frame["change"] == change)]
    sizes = {"n_train": "train", "n_test": "test"}
    counts = {name: [len(getattr(study.corpus.folds[f], part)) for f in mine["fold"]] for name, part in sizes.items()}
    halves = 0.5 + mine["value"] / 200  # a change, as a score between 0 and 1; so the margin is halved, too
    runs = mine[["variant", "fold", "seed"]].assign(accuracy=halves, **counts)
    assert study.margin is not None
    return stats.compare(runs, names[0], names[1], "accuracy", rope=study.margin / 2, exploratory="reliance").verdict


def noise_curves(study: Study) -> Figure:
    """Balanced accuracy under growing noise in one modality."""
    frame = _changes(study).query("change == 'noise'")
    means = _by_folds(study, frame, ["variant", "modality", "level"])
    return figures.noise_curves(means, study.corpus.title)


# ---------------------------------------------------------------------------------------------------- against the truth


def planted_cues(study: Study) -> Table:
    """How well measures find the planted cues: trained networks beside untrained ones, and misled ones if filed."""
    if not _planted(study):
        raise MmerError(f"{study.corpus.title}: only the demo corpus knows where its cues are")
    networks = {"truth": "trained", "truth, untrained": "untrained"}
    if not (missing := filed.missing(study, _tasks(study, MISLED))):
        networks[MISLED] = "shuffled labels"
    parts = [_read(study, what).assign(network=name) for what, name in networks.items()]
    frame = pd.concat(parts).query("check == 'auc'").assign(value=lambda x: 100 * x["value"])
    rows = [*BLOCK, "measure"]
    wide = _spread(_named(_by_folds(study, frame, [*rows, "network"])), rows, "network", 1)
    what = "Area under the curve (%, 50: chance) of measures for the planted cues, with 95% intervals over folds"
    what += f"; for shuffled labels: explain.checked(study, '{MISLED}')" if missing else ""
    return _table(
        study, wide.sort_values("variant", key=lambda names: names.map(two(study).index), kind="stable"), what
    )


def planted_ratings(study: Study) -> Table:
    """All ratings of trained networks: mean over blocks, or over modalities."""
    frame = _truth(study).query("check in @RATED")
    table = _by_folds(study, frame, ["variant", "measure", "check"])
    wide = table.assign(mean=100 * table["mean"]).pivot_table("mean", ["variant", "measure"], "check", sort=False)
    return _table(study, wide[list(RATED)].reset_index().rename_axis(columns=None), "Ratings of measures (%)")


def planted_effects(study: Study) -> Table:
    """What zeros in the place of a cue cost the label, beside zeros in the place of a decoy as long."""
    frame = _truth(study).query("check.str.startswith('effect')", engine="python")
    wide = _spread(_by_folds(study, frame, ["variant", "block", "check"]), BLOCK, "check")
    wide = wide.rename(columns={"block": "modality"})
    return _table(study, wide, "What the label loses, in logits, where a cue or a decoy is set to zero (95%)")


def _truth(study: Study) -> pd.DataFrame:
    if not _planted(study):
        raise MmerError(f"{study.corpus.title}: only the demo corpus knows where its cues are")
    return _read(study, "truth")


EXPLAINED: dict[str, Callable[[Study], Table | Figure]] = {
    made.__name__: made
    for made in (
        *(block_values, weights_over_time, attended_words, heads_and_seeds, explanation_rule, deletion_curves),
        *(input_curves, measures_checked, replaced_attention, modality_reliance, noise_curves, planted_cues),
        *(planted_ratings, planted_effects),
    )
}
