"""The layers against torch's own, finite differences, and the law of dropout."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from mmer_core.errors import MmerError
from mmer_core.kernels import attention as attention_kernels
from mmer_core.kernels import gru as gru_kernels
from mmer_core.kernels import machinery
from mmer_core.kernels.attention import ColumnMean, plain_mean_weights, plain_mean_weights_gradient
from mmer_core.kernels.dropout import keep_mask, plain_mask
from mmer_core.layers import AveragedAttention, BiGRU, TemporalConvolution

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
    layer = AveragedAttention(6, 3, uniform=uniform).double()
    with torch.no_grad():
        for p in layer.parameters():
            p.add_(0.3 * torch.randn_like(p))
    return layer


@pytest.mark.parametrize("uniform", [False, True])
@pytest.mark.parametrize("masked", [False, True])
def test_attention_gradient_with_dropout_replayed(uniform, masked):
    layer = attention(uniform).train()
    query, source = torch.randn(3, 4, 6).double().requires_grad_(), torch.randn(3, 5, 6).double().requires_grad_()
    lengths = (torch.tensor([4, 2, 1]), torch.tensor([5, 1, 3])) if masked else (None, None)
    names, seed = list(dict(layer.named_parameters())), torch.tensor(9)  # the same mask every time

    def run(query, source, *values):
        parameters = dict(zip(names, values, strict=True))
        return torch.func.functional_call(layer, parameters, (query, source, *lengths, seed)).vector

    assert torch.autograd.gradcheck(run, (query, source, *layer.parameters()))


@pytest.mark.parametrize("zero", [0, 3, 7])
def test_steps_of_zeros_are_left_out_of_products_without_a_trace(x, zero):
    """The encoder multiplies only the time steps that are not zero; values and gradients are those of nn.GRU."""
    ours, torchs = gru()
    x[:, 7 - zero :] = 0
    found, wanted = [], []
    for module, out in ((ours, found), (torchs, wanted)):
        y = x.clone().requires_grad_()
        states = module(y) if module is ours else module(y)[0]
        states.square().sum().backward()
        out += [states, y.grad, *(p.grad for p in module.parameters())]
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-12)


def test_no_matrix_of_queries_and_keys_is_kept():
    """Nothing that the backward pass keeps is as large as the attention weights of one head."""
    layer, sizes = AveragedAttention(12, 2).train(), []
    query, source = torch.randn(2, 90, 12).requires_grad_(), torch.randn(2, 80, 12).requires_grad_()

    def note(t):
        sizes.append(t.numel())
        return t

    with torch.autograd.graph.saved_tensors_hooks(note, lambda t: t):
        layer(query, source, seed=torch.tensor(3)).vector.sum().backward()
    assert max(sizes) <= query.numel() < 90 * 80


def test_attention_refuses_heads_that_do_not_divide():
    with pytest.raises(ValueError, match="7 heads"):
        AveragedAttention(120, 7)


@pytest.mark.parametrize("rate", [0.1, 0.25, 0.5])
def test_dropout_has_its_rate_and_keeps_the_mean(rate):
    mask = keep_mask(torch.tensor([77]), (100, 100, 101), rate, torch.float64)
    n = mask.numel()
    assert mask.unique().tolist() == pytest.approx([0, 1 / (1 - rate)], rel=1e-4)
    assert abs((mask == 0).double().mean() - rate) < 5 * (rate * (1 - rate) / n) ** 0.5
    assert abs(mask.mean() - 1) < 5 * (rate / (1 - rate) / n) ** 0.5


def correlation(a, b, rate):
    return ((a - rate) * (b - rate)).mean() / (rate * (1 - rate))


def test_dropout_is_independent_from_place_to_place_and_from_seed_to_seed():
    """Neighbours, the two halves of one random number, the next row, the next utterance, and the next seed."""
    rate, seeds = 0.3, torch.tensor([0, 1, 2, 2**61])
    dropped = (keep_mask(seeds, (60, 70, 128), rate, torch.float64) == 0).double()
    pairs = [(dropped[..., :-shift], dropped[..., shift:]) for shift in (1, 2, 31, 32, 33, 63, 64)]
    pairs += [(dropped[:, :, 1:], dropped[:, :, :-1]), (dropped[:, 1:], dropped[:, :-1]), (dropped[1:], dropped[:-1])]
    for a, b in pairs:
        assert abs(correlation(a, b, rate)) < 5 / a.numel() ** 0.5


def test_dropout_is_a_function_of_its_seed_and_of_no_length():
    mask = keep_mask(torch.tensor([5, 6]), (3, 4, 200), 0.5, torch.float32)
    assert torch.equal(mask, keep_mask(torch.tensor([5, 6]), (3, 4, 200), 0.5, torch.float32))
    assert torch.equal(mask[1, :2, :3, :70], keep_mask(torch.tensor([6]), (2, 3, 70), 0.5, torch.float32)[0])
    assert not torch.equal(mask[0], mask[1])


@pytest.mark.parametrize("length", [None, LENGTH])
@pytest.mark.parametrize("steps", [1, 6, 7])
def test_convolution_equals_torch(x, length, steps):
    """nn.Conv1d along time, on frames behind the lengths that are zero; values at valid slots, and gradients."""
    torch.manual_seed(3)
    ours, torchs = TemporalConvolution(5, 4).double(), nn.Conv1d(5, 4, 3, stride=2, padding=1).double()
    torchs.load_state_dict(ours.state_dict())
    x, length = x[:, :steps], length if length is None else length.clamp(max=steps)
    slots, valid = ours(x, length)
    frames = x if length is None else x * (torch.arange(steps) < length[:, None])[..., None]
    wanted = torchs(frames.mT).mT
    assert slots.shape == (3, -(-steps // 2), 4)
    used = (
        torch.ones(3, slots.shape[1], 1)
        if valid is None
        else (torch.arange(slots.shape[1]) < valid[:, None])[..., None]
    )
    weight = torch.randn(slots.shape, dtype=torch.float64) * used
    torch.testing.assert_close(slots * used, wanted * used, rtol=0, atol=1e-12)
    (slots * weight).sum().backward()
    (wanted * weight).sum().backward()
    for p, q in zip(ours.parameters(), torchs.parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad, rtol=0, atol=1e-12)


# ------------------------------------------- the compiled kernels against the same in PyTorch, as other devices run it


def gradient(q, k, heads, n_query, n_key, seeds, rate, lse, grad):
    """dq, dk, as autograd asks for them."""
    ctx = SimpleNamespace(saved_tensors=(q, k, n_query, n_key, seeds, lse), heads=heads, rate=rate)
    return ColumnMean.backward(ctx, grad, None)[:2]


def gradient_of_steps(grad, W, length, *kept):
    """da, dW, db, as autograd asks for them."""
    return gru_kernels.Recurrence.backward(SimpleNamespace(saved_tensors=(W, length, *kept)), grad)[:3]


ODD = [(3, 5, 9, 2), (4, 70, 130, 3), (2, 130, 64, 1)]  # batch, queries, keys, heads; tiles are 64 wide


@pytest.mark.parametrize("batch, Q, K, heads", ODD)
@pytest.mark.parametrize("rate", [0.0, 0.1])
@pytest.mark.parametrize("runs", [1, 2])
def test_compiled_attention_equals_plain(batch, Q, K, heads, rate, runs):
    g = torch.Generator().manual_seed(1)
    B = batch * runs
    q, k = (torch.randn(B, n, 7 * heads, generator=g, dtype=torch.float64) for n in (Q, K))
    n_query, n_key = (torch.randint(1, n + 1, (B,), generator=g) for n in (Q, K))
    seeds, grad = torch.arange(runs) + 8, torch.randn(B, heads, K, generator=g, dtype=torch.float64)
    abar, lse = ColumnMean.forward(q, k, heads, n_query, n_key, seeds, rate)
    dq, dk = gradient(q, k, heads, n_query, n_key, seeds, rate, lse, grad)
    abar_, lse_ = plain_mean_weights(q, k, heads, n_query, n_key, seeds, rate)
    valid = torch.arange(Q) < n_query[:, None, None]
    torch.testing.assert_close(abar, abar_, rtol=0, atol=1e-12)
    torch.testing.assert_close(lse[valid.expand_as(lse)], lse_[valid.expand_as(lse)], rtol=0, atol=1e-12)
    dq_, dk_ = plain_mean_weights_gradient(q, k, heads, n_query, n_key, seeds, rate, lse_, grad)
    torch.testing.assert_close(dq, dq_, rtol=0, atol=1e-12)
    torch.testing.assert_close(dk, dk_, rtol=0, atol=1e-12)
    if runs == 2:  # a run's numbers do not depend on its neighbour
        alone = ColumnMean.forward(q[batch:], k[batch:], heads, n_query[batch:], n_key[batch:], seeds[1:], rate)[0]
        assert torch.equal(abar[batch:], alone)


@pytest.mark.parametrize("shift", [-90, -60, 60, 90])
def test_compiled_attention_does_not_mind_large_scores(shift):
    """A softmax forgets what all its scores have in common; also where the last group of queries is not full."""
    g = torch.Generator().manual_seed(1)
    q, k = torch.randn(1, 5, 4, generator=g), torch.randn(1, 9, 4, generator=g)
    q[..., 0], k[..., 0] = 1, 0
    arguments = torch.tensor([5]), torch.tensor([9]), torch.tensor([0]), 0.0
    grad, found = 100 * torch.randn(1, 1, 9, generator=g), []
    for common in (0, shift):
        k[..., 0] = common
        abar, lse = ColumnMean.forward(q, k, 1, *arguments)
        found.append((abar, gradient(q, k, 1, *arguments, lse, grad)))
    torch.testing.assert_close(found[0][0], found[1][0], rtol=0, atol=1e-5)
    torch.testing.assert_close(found[0][1][1], found[1][1][1], rtol=0, atol=1e-3)
    assert all(x.isfinite().all() for x in found[1][1])


def test_kernels_do_not_mind_strides():
    g = torch.Generator().manual_seed(1)
    q, k = (torch.randn(5, 3, 4, generator=g).transpose(0, 1) for _ in range(2))
    arguments = torch.full((3,), 5), torch.full((3,), 5), torch.tensor([0]), 0.0
    grad = torch.randn(2, 3, 5, generator=g).transpose(0, 1)
    results = []
    for a, b, c in ((q, k, grad), (q.contiguous(), k.contiguous(), grad.contiguous())):
        abar, lse = ColumnMean.forward(a, b, 2, *arguments)
        results.append((abar, *gradient(a, b, 2, *arguments, lse, c)))
    assert all(torch.equal(x, y) for x, y in zip(*results, strict=True))
    assert results[0][1].abs().max() > 0


@pytest.mark.parametrize("n_query, n_key", [(6, 5), (5, 6), (0, 5), (5, -1), (2**40, 5)])
def test_compiled_attention_refuses_lengths_beyond_its_arrays(n_query, n_key):
    """As from a store that lies: numba would write out of bounds."""
    x = torch.randn(1, 5, 4)
    with pytest.raises(MmerError, match=r"in 1\.\.5, the steps of their array; got"):
        ColumnMean.forward(x, x, 2, torch.tensor([n_query]), torch.tensor([n_key]), torch.tensor([0]), 0.0)


def test_plain_attention_in_blocks_is_the_same(monkeypatch):
    g = torch.Generator().manual_seed(1)
    q, k = (torch.randn(4, 6, 6, generator=g, dtype=torch.float64) for _ in range(2))
    arguments = (q, k, 2, torch.full((4,), 6), torch.full((4,), 6), torch.tensor([3]), 0.3)
    whole = plain_mean_weights(*arguments)
    monkeypatch.setattr(attention_kernels, "AT_ONCE", 100)  # one utterance at a time
    torch.testing.assert_close(plain_mean_weights(*arguments), whole, rtol=0, atol=1e-14)


@pytest.mark.parametrize("units", [4, 60, 70])
@pytest.mark.parametrize("runs", [1, 2])
def test_compiled_steps_equal_plain(units, runs):
    g = torch.Generator().manual_seed(1)
    a = torch.randn(5 * runs, 9, 2, 3 * units, generator=g, dtype=torch.float64)
    W = torch.randn(runs, 2, 3 * units, units, generator=g, dtype=torch.float64) * units**-0.5
    b = torch.randn(runs, 2, 3 * units, generator=g, dtype=torch.float64)
    length = torch.randint(1, 10, (5 * runs,), generator=g)
    grad = torch.randn(5 * runs, 9, 2, units, generator=g, dtype=torch.float64)
    h, *kept = gru_kernels.Recurrence.forward(a, W, b, length)
    h_, *kept_ = gru_kernels.plain_steps(a, W, b, length)
    torch.testing.assert_close(h, h_, rtol=0, atol=1e-12)
    found, wanted = (
        gradient_of_steps(grad, W, length, *kept),
        gru_kernels.plain_steps_gradient(grad, W, length, *kept_),
    )
    for x, y in zip(found, wanted, strict=True):
        torch.testing.assert_close(x, y, rtol=0, atol=1e-12)


def test_compiled_dropout_equals_plain():
    seeds = torch.tensor([3, 2**62 - 1])
    mask = keep_mask(seeds, (2, 3, 100), 0.25, torch.float64)
    wanted = plain_mask(seeds.repeat_interleave(2), torch.tensor([0, 1, 0, 1]), 3, 100, 0.25, torch.float64)
    assert torch.equal(mask, wanted.view(2, 2, 3, 100))


def test_compiled_exp_is_exact_to_a_unit_in_the_seventh_place():
    x = np.linspace(-86, 87, 100_001).astype(np.float32)
    np.testing.assert_allclose(exp_of(x), np.exp(x.astype(np.float64)), rtol=5e-7)
    assert np.isnan(exp_of(np.array([np.nan], np.float32)))[0]
    assert exp_of(np.array([-np.inf, -1e30], np.float32)).max() < 1e-37


@machinery.compiled
def exp_of(x):
    out = np.empty_like(x)
    for i in range(len(x)):
        out[i] = machinery.exp(x[i])
    return out
