"""The two layers against torch's own, finite differences, and the law of dropout."""

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from mmer_core.layers import BiGRU, PooledAttention, keep_mask, valid_steps

LENGTH = torch.tensor([7, 3, 1])


@pytest.fixture
def x():
    return torch.randn(3, 7, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def gru():
    torch.manual_seed(2)
    ours = BiGRU(5, 4).double()
    torchs = nn.GRU(5, 4, batch_first=True, bidirectional=True).double()
    torchs.load_state_dict(ours.state_dict())
    return ours, torchs


@pytest.mark.parametrize("length", [None, LENGTH])
def test_gru_equals_torch(x, length):
    ours, torchs = gru()
    if length is None:
        wanted = torchs(x)[0]
    else:
        packed = pack_padded_sequence(x, length, batch_first=True, enforce_sorted=False)
        wanted = pad_packed_sequence(torchs(packed)[0], batch_first=True, total_length=7)[0]
    found = ours(x, length)
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-12)
    weight = torch.randn(found.shape, dtype=torch.float64)
    (found * weight).sum().backward()
    (wanted * weight).sum().backward()
    for (name, p), q in zip(ours.named_parameters(), torchs.parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad, rtol=0, atol=1e-12, msg=name)


def test_gru_draws_its_weights_as_torch_does():
    torch.manual_seed(0)
    ours = BiGRU(5, 4).state_dict()
    torch.manual_seed(0)
    torchs = nn.GRU(5, 4, batch_first=True, bidirectional=True).state_dict()
    assert all(torch.equal(ours[name], torchs[name]) for name in torchs)


@pytest.mark.parametrize("length", [None, LENGTH])
def test_gru_gradient_equals_finite_differences(x, length):
    ours, _ = gru()
    names = list(dict(ours.named_parameters()))

    def run(x, *values):
        return torch.func.functional_call(ours, dict(zip(names, values, strict=True)), (x, length))

    assert torch.autograd.gradcheck(run, (x.requires_grad_(), *ours.parameters()))


def attention(uniform=False):
    torch.manual_seed(4)
    layer = PooledAttention(6, 3, uniform=uniform).double()
    with torch.no_grad():
        for p in layer.parameters():
            p.add_(0.3 * torch.randn_like(p))
    return layer


@pytest.mark.parametrize("uniform", [False, True])
@pytest.mark.parametrize("masked", [False, True])
def test_attention_gradient_with_dropout_replayed(uniform, masked):
    layer = attention(uniform).train()
    query, source = torch.randn(3, 4, 6).double().requires_grad_(), torch.randn(3, 5, 6).double().requires_grad_()
    masks = (valid_steps(torch.tensor([4, 2, 1]), 4), valid_steps(torch.tensor([5, 1, 3]), 5)) if masked else ()
    names = list(dict(layer.named_parameters()))

    def run(query, source, *values):
        torch.manual_seed(9)  # the same mask every time
        parameters = dict(zip(names, values, strict=True))
        return torch.func.functional_call(layer, parameters, (query, source, *masks)).vector

    assert torch.autograd.gradcheck(run, (query, source, *layer.parameters()))


def test_attention_refuses_heads_that_do_not_divide():
    with pytest.raises(ValueError, match="7 heads"):
        PooledAttention(120, 7)


@pytest.mark.parametrize("rate", [0.1, 0.25, 0.5])
def test_dropout_has_its_rate_and_keeps_the_mean(rate):
    torch.manual_seed(0)
    mask = keep_mask((1000, 1001), rate, like=torch.empty(0, dtype=torch.float64))
    n = mask.numel()
    assert mask.unique().tolist() == pytest.approx([0, 1 / (1 - rate)], rel=1e-4)
    assert abs((mask == 0).double().mean() - rate) < 5 * (rate * (1 - rate) / n) ** 0.5
    assert abs(mask.mean() - 1) < 5 * (rate / (1 - rate) / n) ** 0.5
    # neighbours, which share a random number, are independent of each other
    dropped = (mask == 0).double() - rate
    for shift in (1, 2, 3):
        together = (dropped[:, shift:] * dropped[:, :-shift]).mean() / (rate * (1 - rate))
        assert abs(together) < 5 / n**0.5


def test_dropout_follows_the_seed():
    like = torch.empty(0)
    torch.manual_seed(1)
    first = keep_mask((5, 7), 0.5, like)
    torch.manual_seed(1)
    assert torch.equal(first, keep_mask((5, 7), 0.5, like))
    assert not torch.equal(first, keep_mask((5, 7), 0.5, like))
