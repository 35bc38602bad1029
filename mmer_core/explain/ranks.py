"""Measures of agreement over positions: scores [B, K] of B utterances, of which `valid` [B, K] take part."""

import torch
from torch import Tensor


def kendall(a: Tensor, b: Tensor, valid: Tensor) -> Tensor:
    """Kendall's tau-b of two scores [.., K] over the valid positions; NaN where one of them is constant."""
    pairs = valid[..., None] & valid[..., None, :]
    da, db = (torch.sign(x[..., None] - x[..., None, :]).double() * pairs for x in (a, b))
    return (da * db).sum((-1, -2)) / (da.square().sum((-1, -2)) * db.square().sum((-1, -2))).sqrt()


def auc(score: Tensor, positive: Tensor, valid: Tensor) -> Tensor:
    """Chance that a positive position scores higher than another (a tie is half a win): [B]; NaN without both."""
    pairs = (positive & valid)[:, :, None] & (~positive & valid)[:, None, :]
    wins = (torch.sign(score[:, :, None] - score[:, None, :]).double() + 1) / 2
    return (wins * pairs).sum((1, 2)) / pairs.sum((1, 2))


def auprc(score: Tensor, positive: Tensor, valid: Tensor) -> Tensor:
    """Average precision [B]: the mean, over positive positions, of the precision among all that score as high."""
    above = (score[:, None, :] >= score[:, :, None]) & valid[:, None, :]  # (B, K, K): of row k, those as high as k
    precision = (above & positive[:, None, :]).sum(2).double() / above.sum(2)
    mine = positive & valid
    return (precision * mine).nan_to_num(0).sum(1) / mine.sum(1)
