"""A long run that is killed goes on where it was; a short one writes nothing."""

import os
import time
from collections import Counter
from functools import partial

import numpy as np
import pytest
from faulty import cut_short

import mmer_core as mc
from mmer_core import checkpoint, paths, running
from mmer_core.ledger import Run
from mmer_core.protocol import Protocol

FOUR = Protocol(max_epochs=4, plateau_patience=1, learning_rate=0.01)


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Where checkpoints are kept, of this process and of those that it starts."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    paths.own_folder.cache_clear()
    yield tmp_path / "home" / ".cache" / "mmer" / "unfinished"
    paths.own_folder.cache_clear()


def equal(a, b):
    assert a.curve == b.curve and a.best_epoch == b.best_epoch
    assert all(np.array_equal(a.logits[part], b.logits[part]) for part in ("dev", "test"))
    assert a.weights.keys() == b.weights.keys() and all(np.array_equal(a.weights[k], b.weights[k]) for k in a.weights)


def test_a_killed_run_goes_on_where_it_was_with_the_same_bits(demo, tmp_path, monkeypatch, place):
    monkeypatch.setenv("MMER_STEPS", str(tmp_path / "steps"))
    monkeypatch.setattr("mmer_core.study.in_processes", partial(running.in_processes, work=cut_short))
    study = mc.Study(demo, ["self_t"], [1], [1], FOUR, tmp_path / "ledger").run(progress=False)
    steps = Counter(map(int, (tmp_path / "steps").read_text().split()))
    epoch = -(-len(demo.folds[1].train) // FOUR.batch_size)
    assert (tmp_path / "steps-killed").exists()
    assert [steps[k] for k in (1, 2, 4)] == [epoch] * 3 and epoch <= steps[3] < 2 * epoch  # none done twice but 3
    assert list(place.iterdir()) == []  # nothing is left of what is finished
    (run,) = study.runs
    record, calm = study.ledger.read(run), running.trained(demo, run)
    assert record.summary["provenance"]["resumed"] == "after epoch 2" and "resumed" not in calm.made
    assert record.curve == calm.curve and record.summary["best_epoch"] == calm.best_epoch
    assert all(np.array_equal(record.predictions(part)["logits"], calm.logits[part]) for part in ("dev", "test"))
    assert all(np.array_equal(w, calm.weights[name]) for name, w in record.weights().items())


class Stopped(Exception):
    pass


def interrupted(demo, monkeypatch, run):
    """Leave a checkpoint of two epochs; returns its file."""
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "_EVERY", 0.0)
        real = checkpoint.Resuming.epoch

        def epoch(trainer, states):
            if len(states[0].curve) == 2:
                raise Stopped
            real(trainer, states)

        patch.setattr(checkpoint.Resuming, "epoch", epoch)
        with pytest.raises(Stopped):
            running.trained(demo, run)
    return paths.own_folder() / "unfinished" / file_name(demo, run)


def test_what_nobody_goes_on_with_is_taken_away(demo, monkeypatch, place):
    place.mkdir(parents=True)
    for name, age in (("old", 61), ("young", 59)):
        (place / name).write_bytes(b"")
        os.utime(place / name, (time.time() - age * 86400,) * 2)
    run = Run(demo.fingerprint, mc.Variant("t"), 1, 1, Protocol(max_epochs=3))
    file = interrupted(demo, monkeypatch, run)
    assert {left.name for left in place.iterdir()} == {"young", file.name}


def test_a_damaged_checkpoint_is_told_and_the_run_begins_anew(demo, monkeypatch, place, rng):
    run = Run(demo.fingerprint, mc.Variant("t"), 1, 1, Protocol(max_epochs=3))
    calm = running.trained(demo, run)
    whole, name = interrupted(demo, monkeypatch, run).read_bytes(), file_name(demo, run)
    flipped = bytearray(whole)
    flipped[int(rng.integers(len(whole)))] ^= 4
    foreign = checkpoint._digest(b"not of ours") + b"not of ours"
    for data in (whole[: len(whole) // 2], bytes(flipped), b"", foreign):
        (place / name).write_bytes(data)
        with pytest.warns(UserWarning, match=r"self_t fold 1 seed 1 begins anew, .* cannot be used"):
            again = running.trained(demo, run)
        equal(again, calm)
        assert "resumed" not in again.made and list(place.iterdir()) == []
    (place / name).write_bytes(whole)
    assert running.trained(demo, run).made["resumed"] == "after epoch 2"


def file_name(demo, run):
    return checkpoint.Resuming(demo, run.identity).file.name


def test_a_checkpoint_is_for_this_run_code_and_processor_only(demo, monkeypatch, place):
    run = Run(demo.fingerprint, mc.Variant("t"), 1, 1, Protocol(max_epochs=3))
    names = {file_name(demo, run), file_name(demo, Run("0" * 16, run.variant, 1, 1, run.protocol))}
    names.add(file_name(demo, Run(demo.fingerprint, run.variant, 1, 2, run.protocol)))
    for other in ({"torch": "1.0"}, {"processor": "another"}):
        checkpoint._here.cache_clear()
        monkeypatch.setattr(checkpoint, "made_here", lambda other=other: other)
        names.add(file_name(demo, run))
    checkpoint._here.cache_clear()
    assert len(names) == 5


def test_a_short_run_writes_nothing_and_a_full_disk_costs_no_run(demo, monkeypatch, place):
    run = Run(demo.fingerprint, mc.Variant("t"), 1, 1, Protocol(max_epochs=2))
    calm = running.trained(demo, run)
    assert not place.exists()
    monkeypatch.setattr(checkpoint, "_EVERY", 0.0)
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text("in the way")
    with pytest.warns(UserWarning, match="could not be resumed if it were killed"):
        equal(running.trained(demo, run), calm)


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="Windows has other rights")
@pytest.mark.parametrize("mode, good", [(0o700, True), (0o777, False), (0o770, False)])
def test_what_lies_in_tmp_is_ours_alone(tmp_path, monkeypatch, mode, good):
    """Compiled kernels are run: a folder that others can write into is none to keep them in."""
    shared = tmp_path / f"mmer-{os.getuid()}"
    shared.mkdir()
    shared.chmod(mode)
    monkeypatch.setattr(paths.tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(paths.os.path, "expanduser", lambda p: "/proc/none")
    paths.own_folder.cache_clear()
    try:
        found = paths.own_folder()
        assert (found == shared) == good and found.stat().st_mode & 0o077 == 0 and found.parent == tmp_path
    finally:
        paths.own_folder.cache_clear()
