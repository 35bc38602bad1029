"""Across the test set: where weights lie over time and classes, how sharp they are, and whether seeds agree on them."""

import itertools
from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from scipy.stats import t as student

from mmer_core.corpus import Corpus
from mmer_core.explain.causal import named
from mmer_core.explain.ranks import kendall
from mmer_core.explain.states import batches
from mmer_core.model import FusionModel

BINS = 10  # of normalised time
TIME = [f"time {i}" for i in range(1, BINS + 1)]


@torch.no_grad()
def attended(model: FusionModel, corpus: Corpus, fold: int) -> pd.DataFrame:
    """One row an utterance of the test part and block: the column mean (mean of heads) over normalised time.

    Columns: id, class, named (what the network says), block, entropy (of the column mean of each head, 1: uniform; mean
    over heads), agreement (Kendall's tau between heads, mean over pairs), and "time 1" to "time 10", as multiples of
    what uniform attention gives.
    """
    rows_of = []
    for rows in batches(model, corpus.folds[fold].test):
        found, target = named(model, corpus, rows, fold)
        known = pd.DataFrame({"id": np.array(corpus.ids)[rows], "class": np.array(corpus.classes)[corpus.label[rows]]})
        known["named"] = np.array(corpus.classes)[target.cpu().numpy()]
        for block, mean in found.column_mean.items():
            valid, n = found.keys(block), found.steps[block[0]]
            heads = list(itertools.combinations(range(mean.shape[1]), 2))
            tau = torch.stack([kendall(mean[:, a], mean[:, b], valid) for a, b in heads])
            entropy = -(mean * mean.clamp_min(1e-30).log()).sum(2).mean(1) / n.clamp_min(2).log()
            said = {"block": block, "entropy": entropy.cpu().numpy(), "agreement": tau.nanmean(0).cpu().numpy()}
            time = _over_time((mean.mean(1) * n[:, None]).cpu().numpy(), n.cpu().numpy())
            rows_of.append(known.assign(**said, **dict(zip(TIME, time.T, strict=True))))
    return pd.concat(rows_of, ignore_index=True)


def _over_time(weights: np.ndarray, n: np.ndarray) -> np.ndarray:
    """Weights [B, K], of which the first n [B] are valid, as means over `BINS` equal parts of that time: [B, BINS]."""
    edges = np.linspace(0, 1, BINS + 1) * n[:, None]
    so_far = np.concatenate([np.zeros((len(n), 1)), weights.cumsum(1)], 1)
    at = np.stack([np.interp(e, np.arange(len(s)), s) for e, s in zip(edges, so_far, strict=True)])
    return np.diff(at, axis=1) * BINS / n[:, None]


@torch.no_grad()
def words(model: FusionModel, corpus: Corpus, fold: int) -> pd.DataFrame:
    """One row a block that asks text, and a word of the test part: block, word, class, n, weight.

    n: how often the word stands in utterances of the class; weight: its mean column mean (mean of heads) there, as a
    multiple of what uniform attention gives.
    """
    found_rows = []
    for rows in batches(model, corpus.folds[fold].test):
        found, _ = named(model, corpus, rows, fold)
        for block, mean in found.column_mean.items():
            if block[0] == "t":
                weight = (mean.mean(1) * found.steps["t"][:, None]).cpu().numpy()
                for row, mine in zip(rows, weight, strict=True):
                    label = corpus.classes[corpus.label[row]]
                    found_rows += [(block, w, label, x) for w, x in zip(corpus.transcript(row), mine, strict=False)]
    table = pd.DataFrame(found_rows, columns=["block", "word", "class", "weight"])
    return table.groupby(["block", "word", "class"])["weight"].agg(n="size", weight="mean").reset_index()


def stability(frame: pd.DataFrame) -> pd.DataFrame:
    """Do seeds agree more than utterances do? Of `attended` of several runs (with variant, fold, seed).

    One row a variant, fold and block: "seeds", the mean Kendall's tau between the maps of two seeds for the same
    utterance, and "utterances", that between the maps of two utterances of one seed (each beside the next one).
    """
    rows = []
    for (variant, fold, block), mine in frame.groupby(["variant", "fold", "block"], sort=False):
        maps = {seed: torch.tensor(one.sort_values("id")[TIME].to_numpy(float)) for seed, one in mine.groupby("seed")}
        whole = torch.ones(BINS, dtype=torch.bool)
        same = [kendall(a, b, whole).nanmean().item() for a, b in itertools.combinations(maps.values(), 2)]
        other = [kendall(a, a.roll(1, 0), whole).nanmean().item() for a in maps.values()]
        seeds = float(np.mean(same)) if same else float("nan")
        rows.append((variant, fold, block, seeds, float(np.mean(other))))
    return pd.DataFrame(rows, columns=["variant", "fold", "block", "seeds", "utterances"])


def over_folds(frame: pd.DataFrame, by: Sequence[str], corpus: Corpus, value: str = "value") -> pd.DataFrame:
    """Mean over seeds, then over folds, with a 95% interval: columns of `by`, mean, low, high, folds.

    Student's t over folds; the variance is raised for overlapping train parts (Nadeau and Bengio 2003). Without a
    second fold there is no interval.
    """
    overlap = float(np.mean([len(fold.test) / len(fold.train) for fold in corpus.folds.values()]))
    folds = frame.groupby([*by, "fold"], sort=False, dropna=False)[value].mean()
    table = folds.groupby(list(by), sort=False, dropna=False).agg(["mean", "var", "count"]).reset_index()
    half = student.ppf(0.975, (table["count"] - 1).clip(lower=1)) * np.sqrt(
        table["var"] * (1 / table["count"] + overlap)
    )
    return table[list(by)].assign(
        mean=table["mean"], low=table["mean"] - half, high=table["mean"] + half, folds=table["count"]
    )
