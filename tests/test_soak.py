"""A study that is killed at random moments, its workers one by one or its parent, ends as if nothing had happened."""

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


def declared(folder, demo, seeds):
    folder.mkdir()
    lines = [f"corpus = '{demo.path}'", "ledger = 'runs'", "variants = ['self_t', 'self_ta']", f"seeds = {seeds}"]
    (folder / "study.toml").write_text("\n".join([*lines, "margin = 0.02", "[protocol]", "max_epochs = 2"]))
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


def killed(study, kills, rng):
    """Run a study in a process of its own, again and again, until so many of it or its workers were killed."""
    command, done = [sys.executable, "-m", "mmer_core", "--study", str(study), "run"], 0
    while done < kills:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            while process.poll() is None and done < kills:
                time.sleep(rng.uniform(1, 6))
                workers = children(process.pid)
                if rng.random() < 0.3:
                    process.kill()
                    done += 1
                elif workers:
                    try:
                        os.kill(rng.choice(workers), signal.SIGKILL)
                        done += 1
                    except ProcessLookupError:
                        continue
            if process.poll() == 0 and not mc.open_study(study).missing():
                break
        finally:
            process.kill()
            process.wait()
    return done


@pytest.mark.parametrize(("seeds", "kills"), [(1, 2), pytest.param(4, 50, marks=pytest.mark.slow)])
def test_a_study_that_is_killed_again_and_again_loses_nothing(demo, tmp_path, seeds, kills):
    some = list(range(1, seeds + 1))
    calm = mc.open_study(declared(tmp_path / "calm", demo, some)).run(progress=False)
    study = declared(tmp_path / "killed", demo, some)
    seen, rng, done = {}, random.Random(kills), 0
    while done < kills and mc.open_study(study).missing():
        done += max(1, killed(study, min(3, kills - done), rng))
        now = {p: p.read_bytes() for p in (study.parent / "runs").rglob("run.json") if ".unfinished" not in str(p)}
        assert all(now.get(path) == data for path, data in seen.items()), "a finished run was lost, or written again"
        seen = now
    again = mc.open_study(study).run(progress=False, retry=True)
    assert again.missing() == [] and again.failed() == {} and again.verify() == {}
    folders = [p.parent.name for p in (study.parent / "runs").rglob("run.json")]
    assert len(folders) == len(again.runs) == 10 * seeds
    tables = [one.results().drop(columns="seconds").to_csv() for one in (again, calm)]
    assert tables[0] == tables[1]
