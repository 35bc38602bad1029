"""Runs trained together in a stack, against the same runs trained one by one."""

import numpy as np
import pytest
import torch

import mmer_core as mc
from mmer_core.kernels import attention, dropout, gru
from mmer_core.stack import train_stack
from mmer_core.training import Protocol, train
from mmer_core.variant import Variant

RUNS = [(1, 3), (2, 3), (3, 4)]


def assert_same(found, wanted):
    assert found.best_epoch == wanted.best_epoch and found.parameters == wanted.parameters
    assert len(found.curve) == len(wanted.curve)
    for name in ("epoch", "train_loss", "dev_loss", "dev_accuracy", "learning_rate"):
        np.testing.assert_allclose([p[name] for p in found.curve], [p[name] for p in wanted.curve], rtol=1e-8)
    for part in ("dev", "test"):
        np.testing.assert_allclose(found.logits[part], wanted.logits[part], rtol=0, atol=1e-7)
    for name, w in wanted.weights.items():
        torch.testing.assert_close(found.weights[name], w, rtol=0, atol=1e-7)


@pytest.mark.parametrize(
    "name", ["cross_tva", "self_ta_corrected", "self_t", pytest.param("uniform_tv", marks=pytest.mark.slow)]
)
def test_a_stack_is_the_same_as_its_runs_alone(demo, name, monkeypatch):
    """Dropout, order of batches, schedule and early stop included: in float64 the numbers are the same."""
    variant, protocol = Variant.from_name(name), Protocol(stop_patience=2, max_epochs=4, precision="float64")
    wanted = {run: train(demo, variant, *run, protocol) for run in RUNS}
    for operation in (attention, dropout, gru):
        monkeypatch.setattr(operation, "on_cpu", lambda x: False)  # the plain forms, as on a GPU
    found = dict(train_stack(demo, variant, RUNS, protocol, "cpu"))
    assert found.keys() == wanted.keys()
    for run in RUNS:
        assert_same(found[run], wanted[run])


def test_the_compiled_kernels_serve_a_stack_too(demo):
    variant, protocol = Variant("ta", "cross"), Protocol(max_epochs=1, precision="float64")
    for run, found in train_stack(demo, variant, RUNS[:2], protocol, "cpu"):
        assert_same(found, train(demo, variant, *run, protocol))


def test_runs_stop_by_themselves_and_are_handed_over_at_once(demo):
    """A run that stops early leaves the stack; what is left trains on as if nothing had happened."""
    variant, protocol = Variant("v"), Protocol(stop_patience=1)
    order = list(train_stack(demo, variant, [(1, s) for s in range(4)], protocol, "cpu"))
    epochs = [len(trained.curve) for _, trained in order]
    assert epochs == sorted(epochs) and len(set(epochs)) > 1
    assert all(len(trained.curve) == trained.best_epoch + 1 for _, trained in order)


def test_a_loss_that_is_not_finite_names_its_run(demo, monkeypatch):
    loss = torch.nn.functional.cross_entropy
    monkeypatch.setattr(torch.nn.functional, "cross_entropy", lambda *a, **k: loss(*a, **k) * np.nan)
    told = dict(train_stack(demo, Variant("v"), [(1, 1), (2, 1)], Protocol(max_epochs=1), "cpu"))
    assert all(isinstance(error, FloatingPointError) for error in told.values())
    assert str(told[2, 1]) == "self_v fold 2 seed 1: loss not finite in epoch 1"


def test_a_study_trains_what_is_missing_in_stacks(demo, tmp_path):
    protocol = Protocol(max_epochs=1, precision="float64")
    study = mc.Study(demo, ["self_v", "cross_va"], [1, 2], [1, 2], protocol, tmp_path)
    study.select("self_v").run(device="cpu", progress=False)
    assert [run.variant.name for run in study.missing()] == ["cross_va"] * 4
    study.run(device="cpu", progress=False)
    assert study.missing() == [] and len(study.results()) == 8
    alone = train(demo, study.variants["cross_va"], 2, 1, protocol)
    found = study.record("cross_va", 2, 1).predictions()["logits"]
    np.testing.assert_allclose(found, alone.logits["test"], atol=1e-7)


def test_a_stack_that_does_not_fit_is_halved(demo, tmp_path, monkeypatch):
    from mmer_core import running

    sizes = []

    def small(corpus, variant, runs, protocol, device, heard):
        sizes.append(len(runs))
        if len(runs) > 1:
            raise torch.cuda.OutOfMemoryError("no room")
        return train_stack(corpus, variant, runs, protocol, device, heard)

    monkeypatch.setattr(running, "train_stack", small)
    study = mc.Study(demo, ["self_v"], [1, 2, 3], [1], Protocol(max_epochs=1), tmp_path)
    study.run(device="cpu", progress=False)
    assert study.missing() == [] and sizes == [3, 2, 1, 1, 1]


def test_a_device_and_an_executor_exclude_each_other(demo, tmp_path):
    with pytest.raises(ValueError, match="executor or a device"):
        mc.Study(demo, ["self_v"], [1], [1], Protocol(max_epochs=1), tmp_path).run(executor=object(), device="cpu")
