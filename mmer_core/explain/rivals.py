"""Measures that rival attention weights: what a decision owes to frames, words and keys, by other means.

Each is about the logit of a class minus the mean over classes (`states.centred`). Of inputs: [B, T] a modality, the sum
over its features. Of keys: [B, K] a block.
"""

import numpy as np
import torch
from captum.attr import InputXGradient, IntegratedGradients
from torch import Tensor

from mmer_core.corpus import MODALITIES, Corpus
from mmer_core.explain.states import States, centred, decided, states_of, vector, with_frames, with_keys
from mmer_core.model import FusionModel
from mmer_core.training import feed

STEPS, FEW = 32, 8  # of the path of integrated gradients (Gauss-Legendre); few are enough for ranks, and for keys
WINDOWS = 50  # as many places of a modality are occluded at most; each is one frame wide where there are fewer frames
Scores = dict[str, np.ndarray]


def on_inputs(
    model: FusionModel,
    corpus: Corpus,
    rows: np.ndarray,
    fold: int,
    target: np.ndarray | None = None,
    steps: int = STEPS,
) -> dict[str, Scores]:
    """Three measures on the frames and words of utterances [B]: {measure: {"text": [B, T], ..}}.

    gradient x input; integrated gradients (Sundararajan et al., ICML 2017) from zeros, which is what padding is: they
    sum to the difference that the input makes against zeros; occlusion: what is lost where a frame is set to zero.

    Args:
        target: classes [B]; by default those that the network names.
        steps: of the path of integrated gradients.
    """
    batch = feed(model.eval(), corpus, np.asarray(rows), fold)
    with torch.no_grad():
        logits = model(**batch).logits
    chosen = logits.argmax(1) if target is None else torch.as_tensor(target, device=logits.device)
    names = [MODALITIES[m] for m in model.variant.modalities]
    inputs, more = (
        tuple(batch[name].requires_grad_() for name in names),
        (chosen, *(batch["lengths"][name] for name in names)),
    )

    def value(*given: Tensor) -> Tensor:
        frames, target, lengths = given[: len(names)], given[len(names)], given[len(names) + 1 :]
        out = model(**dict(zip(names, frames, strict=True)), lengths=dict(zip(names, lengths, strict=True)))
        return centred(out.logits, target)

    found = {
        "gradient x input": InputXGradient(value).attribute(inputs, additional_forward_args=more),
        "integrated gradients": IntegratedGradients(value).attribute(
            inputs, additional_forward_args=more, **_path(steps)
        ),
    }
    scores = {measure: _by_name(names, [x.sum(-1) for x in parts]) for measure, parts in found.items()}
    return scores | {"occlusion": _by_name(names, _occluded(model, batch, names, chosen))}


def _path(steps: int) -> dict:
    return dict(n_steps=steps, method="gausslegendre")


@torch.no_grad()
def _occluded(model: FusionModel, batch: dict, names: list[str], target: Tensor) -> list[Tensor]:
    """What the value loses where frames are zero: [B, T] a modality."""
    found, lost = states_of(model, batch), []
    whole = centred(found.logits, target)
    for name in names:
        x, length = batch[name], batch["lengths"][name]
        width, mine = -(-x.shape[1] // WINDOWS), torch.zeros(x.shape[:2], dtype=x.dtype, device=x.device)
        for start in range(0, x.shape[1], width):
            without = x.clone()
            without[:, start : start + width] = 0
            left = centred(with_frames(model, found, name, without, length), target)
            mine[:, start : start + width] = (whole - left)[:, None]
        lost.append(mine / width)
    return lost


def _by_name(names: list[str], parts: list[Tensor]) -> Scores:
    return {name: x.detach().cpu().numpy() for name, x in zip(names, parts, strict=True)}


def on_keys(model: FusionModel, found: States, target: Tensor, oracle: bool = True) -> dict[str, dict[str, Tensor]]:
    """Measures on the keys of every block: {measure: {block: [B, K]}}; keys that take no part have 0.

    weights: the column mean, averaged over heads. contributions: the norm of what a state adds to the block's vector.
    integrated gradients: along the path of the block's keys from zeros to their states, all else as it is.
    leave-one-out, unless without `oracle`: what the class loses where a key is masked.
    """
    with torch.no_grad():
        weights = {block: mean.mean(1) for block, mean in found.column_mean.items()}
        added = {block: _contributions(model, found, block).sum(1).norm(dim=-1) for block in weights}
    gradients = {block: _key_gradients(model, found, block, target) for block in weights}
    measures = {"weights": weights, "contributions": added, "integrated gradients": gradients}
    alone = {block: leave_one_out(model, found, block, target) for block in weights} if oracle else {}
    return measures | ({"leave-one-out": alone} if oracle else {})


def _contributions(model: FusionModel, found: States, block: str) -> Tensor:
    return model.attention(block).contributions(found.column_mean[block], found.encoded[block[0]])[0]


@torch.no_grad()
def leave_one_out(model: FusionModel, found: States, block: str, target: Tensor) -> Tensor:
    """What the value of a class loses where one key of a block is masked before the softmax: [B, K]."""
    keys = found.keys(block)
    all_but_one = ~torch.eye(keys.shape[1], dtype=torch.bool, device=keys.device)
    logits = decided(model, found, {block: with_keys(found, block, all_but_one.expand(len(keys), -1, -1))})
    several = keys.sum(1, keepdim=True) > 1  # the last key cannot be left out
    return (centred(found.logits, target)[:, None] - centred(logits, target)) * (keys & several)


def _key_gradients(model: FusionModel, found: States, block: str, target: Tensor) -> Tensor:
    """Integrated gradients of the states that a block reads as its keys and values: [B, K]."""
    query, at = found.encoded[block[-1]].detach(), list(model.variant.blocks).index(block)
    n_query, n_key = found.steps[block[-1]], found.steps[block[0]]

    def value(source: Tensor, query: Tensor, stack: Tensor, n_query: Tensor, n_key: Tensor, target: Tensor) -> Tensor:
        _, mean = model.attention(block)(query, source, n_query, n_key)
        mine = vector(model, block, mean, source)
        stack = torch.cat([stack[:, :at], mine[:, None], stack[:, at + 1 :]], 1)
        return centred(model.classifier(model.embed(stack)), target)

    source, more = found.encoded[block[0]].detach(), (query, found.vectors.detach(), n_query, n_key, target)
    found_here = IntegratedGradients(value).attribute(source, additional_forward_args=more, **_path(FEW))
    return found_here.sum(-1) * found.keys(block)
