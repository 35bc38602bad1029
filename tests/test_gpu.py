"""The forms for GPUs, against the plain ones in float64: on a GPU where there is one, else by Triton's interpreter."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
if DEVICE == "cpu" and __name__ != "__main__":
    os.environ["TRITON_INTERPRET"] = "1"  # it is looked at when triton is imported
pytest.importorskip("triton")

import mmer_core as mc  # noqa: E402
from mmer_core.corpus import Size, Sizes  # noqa: E402
from mmer_core.kernels import attention, dropout, gru, on_gpu  # noqa: E402

# of the largest element; in 150 draws of the case below, these forms and the plain ones in float32 are off by 6.6e-6
TIGHT = 1e-5


def drawn(*shape):
    return torch.randn(*shape, device=DEVICE)


def whole(*values):
    return torch.tensor(values, device=DEVICE)


def double(*tensors):
    return [x.double() if x.is_floating_point() else x for x in tensors]


def close(found, wanted):
    torch.testing.assert_close(found.double(), wanted, rtol=0, atol=TIGHT * wanted.abs().max().item())


@pytest.mark.parametrize("units, runs, group, steps", [(60, 2, 3, 7), (17, 1, 18, 4), (70, 1, 2, 1)])
def test_the_steps_of_a_gru(units, runs, group, steps):
    B = runs * group
    a, W, b = drawn(B, steps, 2, 3 * units), drawn(runs, 2, 3 * units, units) / 8, drawn(runs, 2, 3 * units)
    length, grad = torch.arange(B, device=DEVICE) % steps + 1, drawn(B, steps, 2, units)
    h, *kept = on_gpu.steps(a, W, b, length)
    wanted, plain = gru.plain_steps(*double(a, W, b, length))
    close(h, wanted)
    da, dc = on_gpu.steps_gradient(grad, W, length, *kept)
    da_, dW_, db_ = gru.plain_steps_gradient(*double(grad, W, length), plain)
    close(da, da_)
    dc = dc.view(2, runs, -1, 3 * units)
    close((dc.mT @ kept[0].view(2, runs, -1, units)).transpose(0, 1), dW_)
    close(dc.sum(2).transpose(0, 1), db_)


@pytest.mark.parametrize("Q, K, heads, width, rate", [(5, 70, 6, 120, 0.1), (66, 3, 2, 30, 0.0), (65, 65, 1, 17, 0.25)])
def test_the_mean_of_attention_weights(Q, K, heads, width, rate):
    q, k, seeds = drawn(4, Q, width), drawn(4, K, width), whole(3, 2**61 + 5)
    n_query, n_key, grad = whole(Q, 1, max(1, Q - 2), Q), whole(1, K, max(1, K - 1), K), drawn(4, heads, K)
    inputs = q, k, heads, n_query, n_key, attention._halves(q, heads, seeds), *dropout.law(rate)
    abar, lse = on_gpu.mean_weights(*inputs)
    plain = [x.double() if x is q or x is k else x for x in (q, k, heads, n_query, n_key, seeds, rate)]
    abar_, lse_ = attention.plain_mean_weights(*plain)
    close(abar, abar_)
    for row, n in enumerate(n_query):
        close(lse[row, :, :n], lse_[row, :, :n])
    dq, dk = on_gpu.mean_weights_gradient(*inputs, lse, grad)
    dq_, dk_ = attention.plain_mean_weights_gradient(*plain, lse_, grad.double())
    close(dq, dq_)
    close(dk, dk_)


def test_masks_are_those_of_every_device():
    seeds = torch.tensor([5, 2**62 - 1])
    wanted = dropout.keep_mask(seeds, (3, 4, 300), 0.25, torch.float32)  # numba's
    first = torch.arange(3, device=DEVICE).repeat(2)
    halves = dropout.plain_halves(seeds.to(DEVICE).repeat_interleave(3), first, 4)
    found = on_gpu.masks(halves, 300, *dropout.law(0.25), torch.float32)
    np.testing.assert_array_equal(found.cpu().view_as(wanted), wanted)


@pytest.mark.parametrize("name", [pytest.param("cross_ta", marks=pytest.mark.slow), "self_va_corrected"])
def test_a_network_over_many_runs(name, monkeypatch):
    """Logits and gradients of two runs under vmap, by these forms and by numba's."""
    sizes, variant = Sizes(Size(3, 8), Size(4, 7), Size(5, 4), 3), mc.Variant.from_name(name)
    models = [mc.FusionModel(variant, sizes) for _ in range(2)]
    weights = {
        k: torch.stack([dict(m.named_parameters())[k].detach() for m in models])
        for k, _ in models[0].named_parameters()
    }
    batch = {m: torch.randn(2, 3, *getattr(sizes, m)) for m in ("text", "video", "audio")}
    batch["lengths"] = {m: torch.randint(1, getattr(sizes, m).length + 1, (2, 3)) for m in ("text", "video", "audio")}
    seeds = torch.randint(2**62, (2, 1 + len(variant.blocks)))

    def one(weights, batch, seeds):
        return torch.func.functional_call(models[0], weights, kwargs={**batch, "seeds": seeds}).logits

    def logits_and_gradients(device):
        here = {k: w.to(device, copy=True).requires_grad_() for k, w in weights.items()}
        moved = {k: x.to(device) for k, x in batch.items() if k != "lengths"}
        moved["lengths"] = {m: n.to(device) for m, n in batch["lengths"].items()}
        logits = torch.vmap(one)(here, moved, seeds.to(device))
        return [x.cpu() for x in (logits, *torch.autograd.grad(logits.square().sum(), list(here.values())))]

    wanted = logits_and_gradients("cpu")
    if DEVICE == "cpu":
        for module in (attention, dropout, gru):
            monkeypatch.setattr(module, "on_cpu", lambda x: False)
            monkeypatch.setattr(module, "on_gpu", lambda x, dtype: on_gpu)
        models[0].to(DEVICE)
    used = []
    steps = on_gpu.steps_gradient
    monkeypatch.setattr(on_gpu, "steps_gradient", lambda *a: used.append(1) or steps(*a))
    for found, want in zip(logits_and_gradients(DEVICE), wanted, strict=True):
        torch.testing.assert_close(found, want, rtol=1e-4, atol=1e-5)
    assert used


LARGEST = 163 * 1024  # bytes on the chip that a program of an A100 may have


@pytest.mark.slow
@pytest.mark.parametrize("card", ["80", "90"])
def test_every_kernel_compiles_for_its_cards_without_one(card):
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    done = subprocess.run([sys.executable, __file__, card], capture_output=True, text=True, env=environment, check=True)
    found = dict(line.split() for line in done.stdout.splitlines())
    assert len(found) == 7 and all(0 <= int(size) <= LARGEST for size in found.values())


def compile_all(card):
    """The name of every kernel, and how many bytes it needs on the chip."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    whole = dict.fromkeys(("length", "n_query", "n_key", "low", "high"), "*i64")
    scalars = dict.fromkeys(("B", "group", "T", "u", "Q", "K", "H", "e", "d", "n"), "i32") | {"factor": "fp32"}
    chosen = dict(M=on_gpu.ROWS, U=64, E=32, BQ=on_gpu.QUERIES, BK=on_gpu.KEYS, N=256, P=on_gpu.PRECISION)
    chosen["dropped"] = 6554
    for name in ["_steps", "_steps_gradient", "_lse", "_mean", "_queries_gradient", "_keys_gradient", "_masks"]:
        function = getattr(on_gpu, name)
        constant = {a: chosen[a] for a in function.arg_names if a in chosen}
        if name == "_masks":
            del constant["dropped"]
        types = {a: "constexpr" if a in constant else (whole | scalars).get(a, "*fp32") for a in function.arg_names}
        types |= {"dropped": "i32"} if name == "_masks" else {}
        source = ASTSource(function, types, {(function.arg_names.index(a),): x for a, x in constant.items()})
        options = {"num_warps": 8 if "steps" in name else 4}
        print(name, triton.compile(source, target=GPUTarget("cuda", card, 32), options=options).metadata.shared)


if __name__ == "__main__":
    compile_all(int(sys.argv[1]))
