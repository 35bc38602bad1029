"""A study that is killed at random moments, its workers one by one or its parent, ends as if nothing had happened."""

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import mmer_core as mc

pytestmark = pytest.mark.skipif(not Path("/proc").is_dir(), reason="children are found in /proc")


def declared(folder, demo, seeds, epochs):
    folder.mkdir()
    lines = [f"corpus = '{demo.path}'", "ledger = 'runs'", "variants = ['self_t', 'self_ta']", f"seeds = {seeds}"]
    lines += ["margin = 0.02", "[protocol]", f"max_epochs = {epochs}", "stop_patience = 100"]
    (folder / "study.toml").write_text("\n".join(lines))
    return folder / "study.toml"


def children(pid):
    """Worker processes of a study, without what loky keeps besides."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(status.read_text().rpartition(")")[2].split()[1])
            command = (status.parent / "cmdline").read_bytes()
        except (OSError, IndexError):
            continue
        if parent == pid and b"LokyProcess" in command:
            found.append(int(status.parent.name))
    return found


def begun(study):
    """The study in a process of its own, which has workers, or has ended."""
    command = [sys.executable, "-m", "mmer_core", "--study", str(study), "run", "--retry"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None and not children(process.pid):
        time.sleep(0.1)
    return process


def strike(process, study, rng, ahead):
    """Kill it or one of its workers at a random moment, or where kills are ahead of runs, some time after the next run.

    False if it ended before.
    """
    seen = len(records(study))
    while ahead and process.poll() is None and len(records(study)) == seen:
        time.sleep(0.05)
    time.sleep(rng.uniform(0, 3))
    victims = [process.pid] if rng.random() < 0.3 else children(process.pid)
    with contextlib.suppress(IndexError, ProcessLookupError):
        os.kill(rng.choice(victims), signal.SIGKILL)
        return process.poll() in (None, -signal.SIGKILL)
    return False


def records(study):
    """run.json of all finished runs, by place."""
    return {p: p.read_bytes() for p in (study.parent / "runs").rglob("run.json") if ".unfinished" not in str(p)}


# Kills and runs keep step, so that 50 kills come to 40 runs on any machine.
@pytest.mark.parametrize(
    ("seeds", "epochs", "kills"), [(1, 2, 2), pytest.param(4, 15, 50, marks=pytest.mark.slow)], ids=["quick", "soak"]
)
def test_a_study_that_is_killed_again_and_again_loses_nothing(demo, tmp_path, seeds, epochs, kills):
    some, started = list(range(1, seeds + 1)), time.monotonic()
    calm = mc.open_study(declared(tmp_path / "calm", demo, some, epochs)).run(progress=False)
    study = declared(tmp_path / "killed", demo, some, epochs)
    seen, rng, done, process = {}, random.Random(kills), 0, None
    try:
        while done < kills and len(seen) < len(calm.runs):
            if process is None or process.poll() is not None:
                process = begun(study)
            done += strike(process, study, rng, done * len(calm.runs) > (len(seen) + 4) * kills)
            now = records(study)
            assert all(now.get(place) == data for place, data in seen.items()), "a finished run was lost or done again"
            seen = now
    finally:
        process.kill()
        process.wait()
    print(f"{done} kills, {len(seen)} of {len(calm.runs)} runs done then, {time.monotonic() - started:.0f} s so far")
    assert done == kills
    again = mc.open_study(study).run(progress=False, retry=True)
    assert again.missing() == [] and again.failed() == {} and again.verify() == {}
    assert seen.items() <= records(study).items() and len(records(study)) == len(calm.runs) == 10 * seeds
    tables = [one.results().drop(columns="seconds").to_csv().encode() for one in (again, calm)]
    assert tables[0] == tables[1]
