"""What predictions of utterances say, once `checked`: other tests, what test sampling adds, verdicts on one split."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
import pandas as pd
from scipy.special import softmax
from statsmodels.stats.contingency_tables import mcnemar

from mmer_core.errors import MmerError
from mmer_core.stats.compare import Difference, satterthwaite
from mmer_core.stats.methods import Test

Predicted = Mapping[tuple[int, int], Mapping[str, np.ndarray]]  # (fold, seed): ids [N], label [N], logits [N, C]
Runs = Sequence[Mapping[str, np.ndarray]]  # the same for each seed of one split
NAMES = ("first", "second")
Names: TypeAlias = tuple[str, str]
Clusters: TypeAlias = Mapping[str, object] | pd.Series | None  # dialogue or speaker of each utterance id, if known
FEW = 20  # clusters; with fewer, and with unequal ones, the error of an interval over clusters is itself uncertain


class Tested(NamedTuple):
    """The test part of one fold, and what the runs of both sides say of it."""

    fold: object
    ids: np.ndarray  # [N] of text, each once
    label: np.ndarray  # [N]
    first: np.ndarray  # logits [S, N, C] of S seeds; the sides may differ in S
    second: np.ndarray

    def right(self) -> tuple[np.ndarray, np.ndarray]:
        """Which runs get which utterances right, [S, N] for each side."""
        return self.first.argmax(2) == self.label, self.second.argmax(2) == self.label

    def gain(self) -> np.ndarray:
        """[N]: share of the second side's runs that get an utterance right, less that of the first side's."""
        first, second = (right.mean(0) for right in self.right())
        return second - first


class _Run(NamedTuple):
    place: str
    fold: object
    ids: np.ndarray
    label: np.ndarray
    logits: np.ndarray


def checked(first: Predicted, second: Predicted, names: Names = NAMES) -> list[Tested]:
    """Both sides' runs, a `Tested` for each fold; the runs of a fold may list its utterances in any order.

    MmerError unless both have the same folds, all runs of a fold the same utterances (each once), an utterance the same
    label everywhere, and all runs the same classes and finite logits.
    """
    sides = [_runs(side, name) for side, name in zip((first, second), names, strict=True)]
    folds = [dict.fromkeys(run.fold for run in side) for side in sides]
    if alone := [fold for fold in {**folds[0], **folds[1]} if fold not in folds[0] or fold not in folds[1]]:
        raise MmerError(f"folds {alone} have predictions of only one of {names[0]}, {names[1]}")
    _agreed(sides[0] + sides[1])
    logits = [{fold: np.stack([run.logits for run in side if run.fold == fold]) for fold in folds[0]} for side in sides]
    parts = {run.fold: run for run in sides[0]}
    return [Tested(fold, run.ids, run.label, *(side[fold] for side in logits)) for fold, run in parts.items()]


def _runs(side: Predicted, name: str) -> list[_Run]:
    if not isinstance(side, Mapping) or not all(isinstance(key, tuple) and len(key) == 2 for key in side):
        found = f"the keys {list(side)[:3]}" if isinstance(side, Mapping) else f"a {type(side).__name__}"
        raise MmerError(f"predictions of {name}: expected {{(fold, seed): run}}, found {found}")
    if not side:
        raise MmerError(f"there are no predictions of {name}")
    return [_run(f"{name}, fold {fold}, seed {seed}", fold, run) for (fold, seed), run in side.items()]


def _run(place: str, fold: object, run: Mapping[str, np.ndarray]) -> _Run:
    """One run's predictions, sorted by utterance."""
    wanted = "ids [N], label [N] (class numbers) and logits [N, C]"
    if not isinstance(run, Mapping) or not {"ids", "label", "logits"} <= set(run):
        raise MmerError(f"{place}: expected {wanted}, found {list(run) if isinstance(run, Mapping) else run!r:.60}")
    try:
        ids, label, logits = np.asarray(run["ids"]), np.asarray(run["label"], float), np.asarray(run["logits"], float)
    except (TypeError, ValueError) as error:
        raise MmerError(f"{place}: expected {wanted}, found what is no such array ({error})") from None
    if not (ids.shape == label.shape == logits.shape[:1] and logits.ndim == 2 and len(ids) and logits.shape[1] > 1):
        shapes = f"shapes {ids.shape}, {label.shape} and {logits.shape}"
        raise MmerError(f"{place}: expected {wanted}, N above 0 and C above 1; found the {shapes}")
    ids = np.array([_text(i) for i in ids.tolist()], dtype=str)
    _refuse(~np.isfinite(logits).all(1), ids, f"{place}: logits are finite numbers, but not those of")
    no_class = ~np.isin(label, np.arange(logits.shape[1]))
    _refuse(no_class, ids, f"{place}: labels are whole numbers from 0 to {logits.shape[1] - 1}, but not those of")
    _refuse(pd.Series(ids).duplicated().to_numpy(), ids, f"{place}: each utterance is tested once, but not")
    order = ids.argsort()
    return _Run(place, fold, ids[order], label[order].astype(int), logits[order])


def _text(name: object) -> str:
    return name.decode(errors="replace") if isinstance(name, bytes) else str(name)


def _refuse(wrong: np.ndarray, ids: np.ndarray, what: str) -> None:
    """MmerError that names the first utterance with something wrong, and how many there are."""
    if wrong.any():
        raise MmerError(f"{what} utterance {str(ids[wrong][0])!r} ({wrong.sum()} of {len(ids)})")


def _agreed(runs: list[_Run]) -> None:
    """MmerError unless runs have the same classes, those of a fold the same utterances, and these one label each."""
    reference: dict[object, _Run] = {}
    for run in runs:
        known = reference.setdefault(run.fold, run)
        if alone := sorted(set(known.ids) ^ set(run.ids)):
            odd = f"{str(alone[0])!r} ({len(alone)} such) in only one of them"
            raise MmerError(f"{known.place} and {run.place} were not tested on the same utterances: {odd}")
        if run.logits.shape[1] != runs[0].logits.shape[1]:
            classes = f"{runs[0].logits.shape[1]} and {run.logits.shape[1]} classes"
            raise MmerError(f"{runs[0].place} and {run.place} have {classes}; both sides need the same")
    named = pd.concat([pd.DataFrame({"id": run.ids, "label": run.label}) for run in runs]).drop_duplicates()
    what = "an utterance has one label in all runs, but not"
    _refuse(named.duplicated("id").to_numpy(), named["id"].to_numpy(), what)


def clustered(first: Predicted, second: Predicted, clusters: Clusters = None) -> Test:
    """Accuracy of these very models on new utterances: an interval over clusters of test utterances.

    Runs of one fold are averaged. Without `clusters` every utterance is its own one, which is too optimistic where
    utterances of one dialogue are alike. Ids are matched as text. MmerError with fewer than two clusters.
    """
    mean, se, G = cluster_variance(checked(first, second), clusters)
    found = Difference("first", "second", "accuracy", 1.0, mean, se, G - 1)
    what = "utterances (dialogues are not known)" if clusters is None else "dialogues or speakers"
    limit = " ".join(["Speaks of these trained models on new utterances, not of training again.", *told(se, G)])
    return Test(f"clustered by {G} {what}", mean, found.interval95, found.p, limit, True)


def told(se: float, clusters: int) -> list[str]:
    """What to say of a standard error over that many clusters, in sentences."""
    few = [f"It rests on {clusters} clusters only: too few to know its error well."] if clusters < FEW else []
    return few + (["Both sides differ by the same in all clusters, so its interval is a point."] if se == 0 else [])


def cluster_variance(tested: list[Tested], clusters: Clusters) -> tuple[float, float, int]:
    """Difference in accuracy, its standard error over clusters of utterances (a ratio of sums), and their number."""
    ids, gain = np.concatenate([t.ids for t in tested]), np.concatenate([t.gain() for t in tested])
    group = ids if clusters is None else _clusters_of(ids, clusters)
    total, n = pd.Series(gain).groupby(group).agg(["sum", "size"]).to_numpy().T
    G, mean = len(total), float(gain.mean())
    if G < 2:
        what = "utterances" if clusters is None else "dialogues or speakers"
        raise MmerError(f"an interval over {what} needs two or more; all {len(gain)} predictions are of {group[0]!r}")
    se = float(np.sqrt(G / (G - 1) * ((total - mean * n) ** 2).sum()) / n.sum())
    return mean, se if np.ptp(gain) >= 1e-12 else 0.0, G


def _clusters_of(ids: np.ndarray, clusters: Mapping | pd.Series) -> list[str]:
    """The cluster of each utterance; MmerError that names the first one without."""
    if not isinstance(clusters, (Mapping, pd.Series)):
        wanted = "a mapping or a Series from utterance ids to clusters"
        raise MmerError(f"clusters: expected {wanted}, found a {type(clusters).__name__}")
    known: dict[str, str] = {}
    for key, value in clusters.items():
        if _text(key) in known:
            raise MmerError(f"clusters: utterance {_text(key)!r} is there twice")
        absent = pd.api.types.is_scalar(value) and pd.isna(value)
        known[_text(key)] = "" if absent else _text(value).strip()
    group = [known.get(i, "") for i in ids.tolist()]
    example = f"clusters has {next(iter(known), None)!r}, for example; no cluster is known of"
    _refuse(np.array([not name for name in group]), ids, example)
    return group


def ensembles(first: Predicted, second: Predicted) -> Test:
    """McNemar's exact test on the ensembles over seeds (mean probabilities), all folds together."""
    tested = checked(first, second)
    voted = [[softmax(x, axis=2).mean(0).argmax(1) == t.label for x in (t.first, t.second)] for t in tested]
    a, b = np.concatenate(voted, axis=1)
    only = int((a & ~b).sum()), int((~a & b).sum())
    p = float(mcnemar([[0, only[0]], [only[1], 0]], exact=True).pvalue) if sum(only) else 1.0
    limit = "Compares ensembles of all seeds, not single runs, and takes utterances for independent."
    if again := len(a) - len(set(np.concatenate([t.ids for t in tested]))):
        limit += f" {again} predictions are of utterances that another fold tests, too: its p is too small."
    return Test("McNemar on seed ensembles", float(b.mean() - a.mean()), None, p, limit, not again)


def sampling_variance(first: Predicted, second: Predicted) -> float:
    """What test sampling alone adds to the variance of a fold's difference in accuracy, in squared points.

    It is the mean over folds of var(difference of an utterance, runs averaged) / utterances. A fold with a single
    utterance takes the variance of the others, pooled. MmerError if no fold has two.
    """
    gains = [100 * t.gain() for t in checked(first, second)]
    n = np.array([len(gain) for gain in gains])
    if n.max() < 2:
        raise MmerError("the variance of test sampling needs a fold that tests two utterances or more")
    variance = np.array([gain.var(ddof=1) if len(gain) > 1 else 0.0 for gain in gains])
    pooled = ((n - 1) * variance).sum() / (n - 1).sum()
    return float((np.where(n > 1, variance, pooled) / n).mean())


def on_one_split(
    first: Runs, second: Runs, *, rope: float, names: Names = NAMES, clusters: Clusters = None, exploratory: str = ""
) -> Difference:
    """A verdict on accuracy for a corpus with one official split, from the runs of its seeds: see `on_each_split`."""
    if isinstance(first, Mapping) or isinstance(second, Mapping):
        raise MmerError("one split: expected a list of runs for each side; on_each_split takes {(fold, seed): run}")
    one, other = ({(1, n): run for n, run in enumerate(side, 1)} for side in (first, second))
    return on_each_split(one, other, rope=rope, names=names, clusters=clusters, exploratory=exploratory)[0]


def on_each_split(
    first: Predicted, second: Predicted, *, rope: float, names: Names, clusters: Clusters = None, exploratory: str = ""
) -> list[Difference]:
    """A verdict on accuracy for each fold by itself: it speaks of this split only. For studies of one or two folds.

    SE^2 = variance over clusters of test utterances + variance of both means over seeds; Welch's degrees of freedom.
    How the verdict would fare with other train utterances is not in the data. MmerError with fewer than two seeds.
    """
    tested, metric, found = checked(first, second, names), "accuracy, this split", []
    note = "This split only: training again with other seeds, and more test utterances like these, are accounted for;"
    note += " how the verdict would fare with another train part is not in the data."
    for t in tested:
        accuracy = [right.mean(1) for right in t.right()]
        if min(map(len, accuracy)) < 2:
            raise MmerError(f"one split needs two seeds or more of each variant; fold {t.fold} has one of a side")
        mean, se, groups = cluster_variance([t], clusters)
        parts = np.array([se**2, *(a.var(ddof=1) / len(a) for a in accuracy)])
        variance, df = float(parts.sum()), np.array([groups, *map(len, accuracy)]) - 1
        freedom = float(satterthwaite(parts, df)) if variance > 0 else groups - 1
        name = metric if len(tested) == 1 else f"{metric} (fold {t.fold})"
        estimate, notes = (mean, float(np.sqrt(variance)), freedom), [note, *told(variance, groups)]
        found.append(Difference(*names, name, rope, *estimate, notes=notes, exploratory=exploratory))
    return found
