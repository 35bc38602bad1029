"""One run, against a plain loop around the textbook network that follows the paper's protocol word by word."""

import copy
import io
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from textbook import like
from torch.nn import functional as F

import mmer_core as mc
from mmer_core import training
from mmer_core.training import Protocol, train
from mmer_core.variant import Variant


def plain_loop(corpus, variant, fold, seed, protocol):
    """Adam, shuffled batches, plateau schedule, first best dev accuracy, early stop: written out, in float64."""
    torch.manual_seed(seed)
    book = like(mc.FusionModel(variant, corpus.sizes, dtype=torch.float64)).double()
    order = torch.Generator().manual_seed(seed)
    train_rows, dev_rows, test_rows = corpus.folds[fold]
    scale = fold if variant.standardise_audio else None

    def forward(rows):
        x = {m: torch.from_numpy(corpus.features(m, rows, fold=scale)).double() for m in ("text", "video", "audio")}
        return book(x, {m: torch.from_numpy(corpus.lengths[m][rows]) for m in x})

    optimiser = torch.optim.Adam(book.parameters(), lr=1e-3)
    lowest, bad, best, best_epoch, kept, curve = np.inf, 0, -1, 0, None, []
    for epoch in range(1, 1000):
        shuffled, losses = train_rows[torch.randperm(len(train_rows), generator=order).numpy()], []
        for start in range(0, len(shuffled), 32):
            rows = shuffled[start : start + 32]
            loss = F.cross_entropy(forward(rows), torch.from_numpy(corpus.label[rows]))
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            losses += [loss.item()] * len(rows)
        with torch.no_grad():
            logits = forward(dev_rows)
        loss = F.cross_entropy(logits, torch.from_numpy(corpus.label[dev_rows])).item()
        accuracy = (logits.argmax(1).numpy() == corpus.label[dev_rows]).mean()
        curve.append((np.mean(losses), loss, accuracy, optimiser.param_groups[0]["lr"]))
        bad = 0 if loss < lowest * (1 - 1e-4) else bad + 1  # torch's relative threshold
        lowest = min(lowest, loss) if bad == 0 else lowest
        if bad > protocol.plateau_patience:
            optimiser.param_groups[0]["lr"] *= 0.1
            bad = 0
        if accuracy > best:
            best, best_epoch, kept = accuracy, epoch, copy.deepcopy(book.state_dict())
        if epoch - best_epoch >= protocol.stop_patience:
            break
    book.load_state_dict(kept)
    with torch.no_grad():
        return np.array(curve), best_epoch, forward(test_rows).numpy()


@pytest.mark.parametrize("name", ["self_ta", "cross_tv_corrected"])
def test_a_run_follows_the_protocol(demo, monkeypatch, name):
    whole = mc.FusionModel.forward
    monkeypatch.setattr(mc.FusionModel, "forward", lambda self, **batch: whole(self.eval(), **batch))  # no dropout
    monkeypatch.setattr(F, "dropout", lambda x, *args, **kwargs: x)
    protocol = Protocol(precision="float64", stop_patience=3, plateau_patience=1)
    variant = Variant.from_name(name)
    found = train(demo, variant, 2, 5, protocol)
    curve, best_epoch, logits = plain_loop(demo, variant, 2, 5, protocol)
    ours = [[p[k] for k in ("train_loss", "dev_loss", "dev_accuracy", "learning_rate")] for p in found.curve]
    np.testing.assert_allclose(ours, curve, rtol=1e-6)
    assert found.best_epoch == best_epoch
    assert len(found.curve) == best_epoch + 3
    np.testing.assert_allclose(found.logits["test"], logits, atol=1e-6)


def test_the_test_part_is_scored_once(demo, monkeypatch):
    scored = []
    predict = training.predict
    monkeypatch.setattr(training, "predict", lambda m, c, rows, *a: scored.append(rows) or predict(m, c, rows, *a))
    train(demo, Variant("t"), 1, 1, Protocol(max_epochs=3))
    assert [rows is demo.folds[1].test for rows in scored] == [False, False, False, True]


@pytest.mark.parametrize("name", ["self_tva", "uniform_ta", "cross_tv_corrected"])
def test_same_seed_same_bits_whatever_the_threads(demo, name):
    variant, protocol = Variant.from_name(name), Protocol(max_epochs=2)
    before = torch.get_num_threads()
    try:
        runs = []
        for threads, seed in ((1, 3), (2, 3), (1, 4)):
            torch.set_num_threads(threads)
            runs.append(train(demo, variant, 1, seed, protocol))
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    a, b, c = runs
    assert a.curve == b.curve
    assert all(np.array_equal(a.logits[part], b.logits[part]) for part in ("dev", "test"))
    assert all(torch.equal(a.weights[k], b.weights[k]) for k in a.weights)
    assert a.curve != c.curve


@pytest.mark.parametrize("name", ["cross_ta", "self_t_corrected"])
def test_a_run_goes_on_from_its_state_as_if_nothing_had_happened(demo, name):
    """Into a new RunState, by way of a file; the run that was noted trains on undisturbed."""
    variant, protocol = Variant.from_name(name), Protocol(max_epochs=5, plateau_patience=1, learning_rate=0.01)

    def begin():
        return training.RunState(demo, variant, 2, 3, protocol)

    with training.one_thread():
        first, again = begin(), begin()
        for _ in range(2):
            training.Trainer(demo).epoch([first])
        file = io.BytesIO()
        torch.save(first.state_dict(), file)
        file.seek(0)
        again.load_state_dict(torch.load(file, weights_only=True))
        ((_, a),) = training.Trainer(demo).train([first])
        ((_, b),) = training.Trainer(demo).train([again])
    wanted = train(demo, variant, 2, 3, protocol)
    for run in (a, b):
        assert run.curve == wanted.curve and run.best_epoch == wanted.best_epoch
        assert all(torch.equal(run.weights[k], wanted.weights[k]) for k in wanted.weights)
        assert all(np.array_equal(run.logits[part], wanted.logits[part]) for part in ("dev", "test"))


def test_threads_train_at_the_same_time_and_give_the_same_bits(demo, monkeypatch):
    """Each run waits in its first epochs until the other one has come as far: one after the other, they never would."""
    runs, protocol = [(Variant("t"), 1), (Variant("va", "cross"), 2)], Protocol(max_epochs=2)
    wanted = [train(demo, variant, fold, 1, protocol) for variant, fold in runs]
    both, epoch = threading.Barrier(2, timeout=120), training.Trainer.epoch

    def together(self, states):
        both.wait()
        epoch(self, states)
        both.wait()

    monkeypatch.setattr(training.Trainer, "epoch", together)
    before = torch.get_num_threads()
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lambda run: train(demo, run[0], run[1], 1, protocol), runs))
    assert torch.get_num_threads() == before
    for a, b in zip(found, wanted, strict=True):
        assert a.curve == b.curve and all(torch.equal(a.weights[k], b.weights[k]) for k in b.weights)


def test_what_others_draw_in_between_changes_no_run(demo, monkeypatch):
    """Dropout has a generator of its own: torch's global one may be used by anybody while a run is trained."""
    protocol = Protocol(max_epochs=2)
    wanted = train(demo, Variant("ta"), 1, 1, protocol)
    whole = mc.FusionModel.forward
    monkeypatch.setattr(mc.FusionModel, "forward", lambda self, **batch: (torch.rand(3), whole(self, **batch))[1])
    assert train(demo, Variant("ta"), 1, 1, protocol).curve == wanted.curve


def test_a_run_leaves_the_callers_random_numbers_alone(demo):
    torch.manual_seed(0)
    wanted = torch.rand(3)
    torch.manual_seed(0)
    train(demo, Variant("t"), 1, 1, Protocol(max_epochs=1))
    assert torch.equal(torch.rand(3), wanted)


def test_kept_weights_give_the_kept_logits(demo):
    run = train(demo, Variant("ta"), 1, 1, Protocol(max_epochs=3))
    model = mc.FusionModel(Variant("ta"), demo.sizes)
    model.load_state_dict(run.weights)
    for part in ("dev", "test"):
        logits = training.predict(model, demo, getattr(demo.folds[1], part), 1)
        np.testing.assert_array_equal(logits, run.logits[part])
    accuracy = (run.logits["dev"].argmax(1) == demo.label[demo.folds[1].dev]).mean()
    assert accuracy == max(p["dev_accuracy"] for p in run.curve) == run.curve[run.best_epoch - 1]["dev_accuracy"]


def test_a_loss_that_is_not_finite_is_an_error(demo):
    with pytest.raises(FloatingPointError, match="self_t fold 1 seed 1"), np.errstate(all="ignore"):
        broken = copy.copy(demo)
        object.__setattr__(
            broken, "arrays", {**demo.arrays, "embedding": demo.arrays["embedding"] * np.float32(np.inf)}
        )
        train(broken, Variant("t"), 1, 1, Protocol(max_epochs=1))


@pytest.mark.parametrize(
    "wrong",
    [
        dict(learning_rate=0),
        dict(learning_rate="fast"),
        dict(batch_size=0),
        dict(batch_size=2.5),
        dict(stop_patience=True),
        dict(max_epochs=0),
        dict(precision="half"),
    ],
)
def test_protocols_without_sense_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Protocol(**wrong)


def test_the_defaults_are_the_papers():
    p = Protocol()
    assert (p.learning_rate, p.batch_size, p.plateau_factor, p.plateau_patience, p.stop_patience) == (
        1e-3,
        32,
        0.1,
        10,
        10,
    )
    assert p.max_epochs is None
