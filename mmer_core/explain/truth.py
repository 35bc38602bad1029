"""Against the truth: do weights and their rivals find the cues that were planted in the demo corpus?

Cues come with equally loud decoys that carry no class. A slot is positive if its receptive field meets the cue; an
utterance counts for a modality that holds one. Measures that have a class have that of the label.
"""

from collections.abc import Iterator

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from mmer_core.corpus import MODALITIES, Corpus
from mmer_core.demo import CUE, DECOY
from mmer_core.errors import MmerError
from mmer_core.explain.causal import Told
from mmer_core.explain.ranks import auc, auprc
from mmer_core.explain.rivals import FEW, on_inputs, on_keys
from mmer_core.explain.states import batches, centred, states, states_of, with_frames
from mmer_core.explain.weights import receptive_field
from mmer_core.kernels.machinery import valid_steps
from mmer_core.model import FusionModel
from mmer_core.training import feed

CHECKS = ("auc", "auprc", "highest within one", "mass within one", "chance of that", "cue above decoy")


def truth(model: FusionModel, corpus: Corpus, fold: int) -> pd.DataFrame:
    """How well each measure finds the planted cues of the test part of a fold: means over utterances.

    Tidy: block, check, measure, share (NaN), value. Of blocks, on their keys (unless the convolution mixes all frames:
    then slots are no places), and of modalities, on their frames. Checks: `CHECKS`, in [0, 1], and of modalities
    "effect of the cue" and "of a decoy", as many frames long: what the logit of the label, minus the mean over
    classes, loses where they are set to zero. MmerError for a corpus in which nothing was planted.
    """
    if not any(f"planted_{name}" in corpus.arrays for name in MODALITIES.values()):
        raise MmerError(f"{corpus.title}: only the demo corpus knows where its cues are")
    told = Told()
    for rows in batches(model, corpus.folds[fold].test):
        target = torch.from_numpy(corpus.label[rows]).to(model.classifier.weight.device)
        with torch.no_grad():
            found = states(model, corpus, rows, fold)
        for measure, blocks in on_keys(model, found, target).items():
            for block, score in blocks.items():
                if (field := receptive_field(model, block[0])) is not None:
                    cue, decoy = (_meets(field, corpus, block[0], rows, kind, score.shape[1]) for kind in (CUE, DECOY))
                    valid = found.keys(block).cpu() & _own(corpus, block[0], rows, score.shape[1])
                    told.add(block, _rated(measure, score.detach().cpu(), cue, decoy, valid))
        for measure, modalities in on_inputs(model, corpus, rows, fold, corpus.label[rows], FEW).items():
            for name, frames in modalities.items():
                cue, decoy = (_planted(corpus, name, rows, kind)[:, : frames.shape[1]] for kind in (CUE, DECOY))
                valid = valid_steps(torch.from_numpy(corpus.lengths[name][rows]), frames.shape[1])
                told.add(name, _rated(measure, torch.from_numpy(frames), cue, decoy, valid))
        for m in model.variant.modalities:
            told.add(MODALITIES[m], _effects(model, corpus, rows, fold, MODALITIES[m], target))
    return told.frame()


def _planted(corpus: Corpus, name: str, rows: np.ndarray, kind: int) -> Tensor:
    return torch.from_numpy(corpus.column(f"planted_{name}", rows) == kind)


def _meets(field: np.ndarray, corpus: Corpus, m: str, rows: np.ndarray, kind: int, slots: int) -> Tensor:
    """Which slots meet what was planted, bool [B, slots]."""
    planted = _planted(corpus, MODALITIES[m], rows, kind).double()
    return (planted @ torch.from_numpy(field.T).double() > 0)[:, :slots]


def _own(corpus: Corpus, m: str, rows: np.ndarray, slots: int) -> Tensor:
    """Which slots hold something of the utterance, also where padding takes part: bool [B, slots]."""
    frame = torch.arange(slots) * (1 if m == "t" else 2)  # in the middle of each
    return frame < torch.from_numpy(corpus.lengths[MODALITIES[m]][rows])[:, None]


def _rated(measure: str, score: Tensor, cue: Tensor, decoy: Tensor, valid: Tensor) -> Iterator[tuple]:
    cue, decoy = cue & valid, decoy & valid & ~cue
    has = cue.any(1) & (valid & ~cue).any(1)
    score, cue, decoy, valid = score[has].double(), cue[has], decoy[has], valid[has]
    near = torch.nn.functional.max_pool1d(cue[:, None].double(), 3, 1, 1)[:, 0].bool() & valid
    best = score.masked_fill(~valid, -torch.inf).argmax(1, keepdim=True)
    mass = score.clamp_min(0) * valid
    cues, decoys = ((score * part).sum(1) / part.sum(1) for part in (cue, decoy))
    values = (
        auc(score, cue, valid),
        auprc(score, cue, valid),
        near.gather(1, best)[:, 0].double(),
        (mass * near).sum(1) / mass.sum(1),
        near.sum(1).double() / valid.sum(1),
        ((torch.sign(cues - decoys) + 1) / 2).where(decoy.any(1), torch.nan),
    )
    return ((check, measure, np.nan, value) for check, value in zip(CHECKS, values, strict=True))


@torch.no_grad()
def _effects(
    model: FusionModel, corpus: Corpus, rows: np.ndarray, fold: int, name: str, target: Tensor
) -> Iterator[tuple]:
    """What zeros in the place of the cue, and of as many frames of a decoy, cost the label."""
    batch = feed(model.eval(), corpus, rows, fold)
    steps, found = batch[name].shape[1], states_of(model, batch)
    whole = centred(found.logits, target)
    cue, decoy = (_planted(corpus, name, rows, kind)[:, :steps] for kind in (CUE, DECOY))
    both = torch.minimum(cue.sum(1), decoy.sum(1))[:, None]
    for what, place in (("effect of the cue", cue), ("effect of a decoy", decoy)):
        gone = (place & (place.cumsum(1) <= both)).to(batch[name].device)[..., None]
        frames = batch[name].masked_fill(gone, 0)
        lost = whole - centred(with_frames(model, found, name, frames, batch["lengths"][name]), target)
        yield what, "zeros", np.nan, lost.cpu()[both[:, 0] > 0]
