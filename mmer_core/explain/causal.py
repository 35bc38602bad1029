"""Causal checks: does the network decide otherwise when the keys that a measure ranks high are taken away?

Keys are masked before the softmax, so what is left keeps its states; frames are set to zero, which no recording does.
All rows speak of the class that the network names, over the test part of a fold. Comprehensiveness is what its
probability loses without the top keys, sufficiency what it loses with nothing but them (DeYoung et al., "ERASER",
ACL 2020): a good measure has a high one and a low one.
"""

import copy
import itertools
from collections.abc import Iterable, Iterator

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from mmer_core.corpus import Corpus
from mmer_core.explain.ranks import kendall
from mmer_core.explain.rivals import FEW, on_inputs, on_keys
from mmer_core.explain.states import States, batches, decided, states, states_of, with_frames, with_keys
from mmer_core.kernels.machinery import valid_steps
from mmer_core.metrics import scores
from mmer_core.model import FusionModel
from mmer_core.training import feed

SHARES = (0.01, 0.05, 0.1, 0.2, 0.5)  # of the valid keys, at least one, and never all of them
DRAWS = 20
MEASURES = ("weights", "contributions", "integrated gradients")  # of keys, beside leave-one-out
COLUMNS = ["block", "check", "measure", "share", "value"]


def deletions(model: FusionModel, corpus: Corpus, fold: int, seed: int = 0) -> pd.DataFrame:
    """Deletion curves, rank correlation with leave-one-out, and replaced attention, means over the test part of a fold.

    Tidy: block, check, measure, share (of keys; NaN if none), value. Checks: "top", "bottom" and "keep" delete, or
    keep nothing but, the keys that a measure ranks highest or lowest; "random" and "matched" delete random keys, as
    many or as much weight as "weights" has at its top; "tau" is Kendall's with leave-one-out; "replaced" is the
    balanced accuracy with other attention ("uniform", "shuffled", "another's"; measure "none": as it is).
    """
    rng, told = torch.Generator().manual_seed(seed), Told()
    for rows in batches(model, corpus.folds[fold].test):
        found, target = named(model, corpus, rows, fold)
        measures = on_keys(model, found, target)
        for block in found.weights:
            scores_of = {measure: blocks[block] for measure, blocks in measures.items()}
            told.add(block, _curves(model, found, block, scores_of, target))
            told.add(block, _at_random(model, found, block, target, rng))
            told.add(block, _correlations(scores_of, found.keys(block)))
    return pd.concat([told.frame(), replaced(model, corpus, fold, seed)], ignore_index=True)


class Told:
    """Values of utterances, by what they speak of, and their means as a tidy frame."""

    def __init__(self) -> None:
        self.values: dict[tuple, list[Tensor]] = {}

    def add(self, block: str, values: Iterable[tuple[str, str, float, Tensor]]) -> None:
        for check, measure, share, value in values:
            self.values.setdefault((block, check, measure, share), []).append(value.detach().cpu())

    def frame(self) -> pd.DataFrame:
        """Means over the utterances for which there is a value."""
        means = [(*place, torch.cat(values).nanmean().item()) for place, values in self.values.items()]
        return pd.DataFrame(means, columns=COLUMNS)


@torch.no_grad()
def named(model: FusionModel, corpus: Corpus, rows: np.ndarray, fold: int) -> tuple[States, Tensor]:
    """What a network computes of utterances, and the classes that it names."""
    found = states(model, corpus, rows, fold)
    return found, found.logits.argmax(1)


def _probability(logits: Tensor, target: Tensor) -> Tensor:
    """That of the class [B], of logits [B, S, C]: [B, S]."""
    return logits.softmax(-1).gather(-1, target[:, None, None].expand(-1, logits.shape[1], 1))[..., 0]


def top(score: Tensor, valid: Tensor, share: float) -> Tensor:
    """The share of valid positions with the highest scores, bool [B, K]: one at least, and never all."""
    n = valid.sum(1, keepdim=True)
    k = (share * n).round().clamp_min(1).clamp_max(n - 1)
    place = score.masked_fill(~valid, -torch.inf).argsort(dim=1, descending=True, stable=True).argsort(1)
    return (place < k) & valid


@torch.no_grad()
def _lost(model: FusionModel, found: States, block: str, keep: Tensor, target: Tensor) -> Tensor:
    """What the probability of a class loses where a block has only some keys, keep [B, S, K]: [B, S]."""
    after = decided(model, found, {block: with_keys(found, block, keep)})
    return _probability(found.logits[:, None], target) - _probability(after, target)


def _curves(
    model: FusionModel, found: States, block: str, measures: dict[str, Tensor], target: Tensor
) -> Iterator[tuple[str, str, float, Tensor]]:
    valid, keep, told = found.keys(block), [], []
    for (measure, score), share in itertools.product(measures.items(), SHARES):
        high, low = top(score, valid, share), top(-score, valid, share)
        keep += [valid & ~high, valid & ~low, high]
        told += [(check, measure, share) for check in ("top", "bottom", "keep")]
    lost = _lost(model, found, block, torch.stack(keep, 1), target)
    return ((*what, value) for what, value in zip(told, lost.unbind(1), strict=True))


def _at_random(
    model: FusionModel, found: States, block: str, target: Tensor, rng: torch.Generator
) -> Iterator[tuple[str, str, float, Tensor]]:
    """Random keys: as many as the top ones, and as many as have the weight of the top ones."""
    valid, weight = found.keys(block), found.column_mean[block].mean(1)
    B, K = valid.shape
    order = torch.rand(B, DRAWS, K, generator=rng).to(weight.device).masked_fill(~valid[:, None], 2).argsort(2)
    place = order.argsort(2)  # of each key in the order in which it is deleted
    mass = weight[:, None].expand(-1, DRAWS, -1).gather(2, order).cumsum(2)
    for share in SHARES:
        high = top(weight, valid, share)
        wanted, count = (weight * high).sum(1)[:, None, None], high.sum(1)[:, None, None]
        enough = ((mass < wanted).sum(2, keepdim=True) + 1).minimum(valid.sum(1)[:, None, None] - 1)
        for check, many in (("random", count), ("matched", enough)):
            yield check, "weights", share, _lost(model, found, block, valid[:, None] & (place >= many), target).mean(1)


def _correlations(measures: dict[str, Tensor], valid: Tensor) -> Iterator[tuple[str, str, float, Tensor]]:
    """Kendall's tau of each measure on the keys with leave-one-out."""
    for measure in MEASURES:
        yield "tau", measure, np.nan, kendall(measures[measure], measures["leave-one-out"], valid)


@torch.no_grad()
def replaced(model: FusionModel, corpus: Corpus, fold: int, seed: int = 0) -> pd.DataFrame:
    """Balanced accuracy on the test part with other attention in one block, or in all, as rows of `deletions`.

    "uniform": the same weight for every valid key; "shuffled": the weights of the utterance in another order;
    "another's": those of another utterance, in normalised time.
    """
    rng, test = torch.Generator().manual_seed(seed), corpus.folds[fold].test
    said: dict[tuple[str, str], list[Tensor]] = {}
    for rows in batches(model, test):
        found, target = named(model, corpus, rows, fold)
        said.setdefault(("all blocks", "none"), []).append(target)
        others = {block: _others(found, block, rng) for block in found.weights}
        for what in ("uniform", "shuffled", "another's"):
            ours = {block: other[what][:, None] for block, other in others.items()}
            for name, changed in [*((block, {block: mean}) for block, mean in ours.items()), ("all blocks", ours)]:
                said.setdefault((name, what), []).append(decided(model, found, changed)[:, 0].argmax(1))
    found_scores = {
        place: scores(corpus.label[test], torch.cat(named).cpu().numpy(), len(corpus.classes))
        for place, named in said.items()
    }
    table = [(b, "replaced", what, np.nan, s["balanced_accuracy"]) for (b, what), s in found_scores.items()]
    return pd.DataFrame(table, columns=COLUMNS)


def _others(found: States, block: str, rng: torch.Generator) -> dict[str, Tensor]:
    """Column means [B, H, K] that are not a block's own."""
    own, valid = found.column_mean[block], found.keys(block)
    n = valid.sum(1, keepdim=True)
    order = torch.rand(valid.shape, generator=rng).to(own.device).masked_fill(~valid, 2).argsort(1)
    shuffled = own.gather(2, order[:, None].expand_as(own))
    theirs = (torch.arange(own.shape[2], device=own.device) * n.roll(1, 0) / n).long().clamp_max(own.shape[2] - 1)
    rolled = own.roll(1, 0).gather(2, theirs[:, None].expand_as(own)) * valid[:, None]
    rolled = rolled / rolled.sum(2, keepdim=True).clamp_min(torch.finfo(own.dtype).tiny)
    return {"uniform": (valid / n)[:, None].expand_as(own).to(own.dtype), "shuffled": shuffled, "another's": rolled}


def randomised(model: FusionModel, corpus: Corpus, fold: int, seed: int = 0) -> pd.DataFrame:
    """Parameter randomisation (Adebayo et al., NeurIPS 2018), from the classifier down to the encoders.

    Rows of `deletions`: check "randomised", measure, and Kendall's tau between the measure before and after, for the
    same class; `block` is "block: what was drawn anew". A measure that stays the same explains nothing of the network.
    """
    told, changed, test = Told(), copy.deepcopy(model), corpus.folds[fold].test
    layers = {"classifier": ("concat_linear", "classifier"), "attention": ("mha_",), "encoders": ("_conv", "_encoder")}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        fresh = FusionModel(model.variant, model.sizes, dtype=model.classifier.weight.dtype).state_dict()
    now = [(rows, *named(model, corpus, rows, fold)) for rows in batches(model, test)]
    before = [on_keys(model, found, target, oracle=False) for _, found, target in now]
    for drawn, names in layers.items():
        anew = {name: w for name, w in fresh.items() if any(part in name for part in names)}
        changed.load_state_dict(changed.state_dict() | anew)
        for (rows, found, target), old in zip(now, before, strict=True):
            new = on_keys(changed, named(changed, corpus, rows, fold)[0], target, oracle=False)
            for measure, block in itertools.product(MEASURES, found.weights):
                tau = kendall(old[measure][block], new[measure][block], found.keys(block))
                told.add(block, [(f"randomised: {drawn}", measure, np.nan, tau)])
    return told.frame()


def input_deletions(model: FusionModel, corpus: Corpus, fold: int, seed: int = 0) -> pd.DataFrame:
    """The same curves where frames or words of a modality are set to zero; `block` is the modality.

    Stronger than masked keys, and not an input that the network was trained on. Measures are those on inputs.
    """
    rng, told = np.random.default_rng(seed), Told()
    for rows in batches(model, corpus.folds[fold].test):
        batch = feed(model, corpus, rows, fold)
        with torch.no_grad():
            found = states_of(model.eval(), batch)
        before, measures = found.logits, on_inputs(model, corpus, rows, fold, steps=FEW)
        target = before.argmax(1)
        drawn = {name: rng.random(x.shape) for name, x in measures["occlusion"].items()}
        for measure, modalities in (measures | {"random": drawn}).items():
            for name, score in modalities.items():
                valid = valid_steps(torch.from_numpy(corpus.lengths[name][rows]), score.shape[1])
                before_it, lost = None, torch.empty(0)
                for share in SHARES:
                    gone = top(torch.from_numpy(score), valid, share).to(before.device)[..., None]
                    if before_it is None or not torch.equal(gone, before_it):
                        with torch.no_grad():
                            frames = batch[name].masked_fill(gone, 0)
                            after = with_frames(model, found, name, frames, batch["lengths"][name])
                        lost = _probability(before[:, None], target) - _probability(after[:, None], target)
                    before_it = gone
                    told.add(name, [("frames", measure, share, lost[:, 0])])
    return told.frame()
