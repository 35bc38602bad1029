"""The published networks in float64: logits, embedding, loss, every gradient and twenty steps of Adam, to 1e-9."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

import mmer_core as mc


@pytest.fixture(params=["self", "cross"])
def golden(request):
    with np.load(Path(__file__).parent / "golden" / f"{request.param}_attention.npz") as z:
        arrays = {name: z[name] for name in z}
    model = mc.from_published_weights({k[6:]: a for k, a in arrays.items() if k.startswith("param.")}, heads=3)
    assert model.variant.attention == request.param
    inputs = {m: torch.from_numpy(arrays[f"input.{m}"]) for m in ("text", "video", "audio")}
    return arrays, model, inputs, torch.from_numpy(arrays["input.label"])


def close(a, b):
    np.testing.assert_allclose(a, b, rtol=0, atol=1e-9)


def test_outputs_loss_and_gradients(golden):
    arrays, model, inputs, label = golden
    out = model(**inputs)
    loss = F.cross_entropy(out.logits, label)
    loss.backward()
    close(out.logits.detach(), arrays["output.logits"])
    close(out.embedding.detach(), arrays["output.embedding"])
    close(loss.item(), arrays["output.loss"])
    wanted = {k[5:] for k in arrays if k.startswith("grad.")}
    found = mc.published_arrays(model, grads=True)
    assert set(found) == wanted
    for name in wanted:
        close(found[name], arrays[f"grad.{name}"])


def test_adam_losses(golden):
    arrays, model, inputs, label = golden
    optimiser = torch.optim.Adam(model.parameters(), 1e-3)
    losses = []
    for _ in range(20):
        optimiser.zero_grad()
        loss = F.cross_entropy(model(**inputs).logits, label)
        losses.append(loss.item())
        loss.backward()
        optimiser.step()
    close(losses, arrays["output.adam_losses"])


def test_weights_go_out_as_they_came_in(golden):
    arrays, model, _, _ = golden
    for name, a in mc.published_arrays(model).items():
        assert a.dtype == np.float64
        np.testing.assert_array_equal(a, arrays[f"param.{name}"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: a.pop("classifier.bias"), "classifier"),
        (lambda a: a.update({"concat_linear.weight": a["concat_linear.weight"][:, :-1]}), "concat_linear"),
        (lambda a: a.update({"classifier.bias": a["classifier.bias"].astype("float32")}), "float32"),
        (lambda a: a.update({"video_conv.weight": np.zeros((6, 8, 3))}), "kernel 3"),
        (lambda a: a.update({"something.else": np.zeros(3)}), "something.else"),
        (lambda a: a.clear(), "not the weights"),
    ],
)
def test_other_weights_are_refused(golden, change, message):
    arrays = {k[6:]: a for k, a in golden[0].items() if k.startswith("param.")}
    change(arrays)
    with pytest.raises(ValueError, match=message):
        mc.from_published_weights(arrays, heads=3)
