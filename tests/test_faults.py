"""What goes wrong in a study, really done: no finished run is lost, and every run that fails is named."""

import importlib.metadata
import json
import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from concurrent.futures import BrokenExecutor, CancelledError, Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import CHECKOUT
from faulty import faulty, once

import mmer_core as mc
from mmer_core import ledger as ledger_module
from mmer_core import provenance, running, stats
from mmer_core import record as record_module
from mmer_core.events import Log
from mmer_core.ledger import Run
from mmer_core.protocol import Protocol
from mmer_core.watching import Watch

SHORT = Protocol(max_epochs=1)


def small(demo, folder, variants=("self_t",), seeds=(1, 2, 3), folds=(1, 2)):
    return mc.Study(demo, variants, seeds, folds, SHORT, folder, margin=0.02)


def broken(monkeypatch, work):
    monkeypatch.setattr("mmer_core.study.in_processes", partial(running.in_processes, work=work))


def test_runs_that_fail_are_named_and_the_others_are_trained(demo, tmp_path, monkeypatch):
    with ThreadPoolExecutor(1) as here:
        whole = small(demo, tmp_path / "whole").run(here, progress=False)
    broken(monkeypatch, faulty)
    study = small(demo, tmp_path / "ledger").run(progress=False)
    told = {(run.fold, run.seed): why for run, why in study.failed().items()}
    assert set(told) == {(1, 2), (1, 3)} and len(study.results()) == 4
    assert "its worker process was killed" in told[1, 2] and "FloatingPointError" in told[1, 3]
    assert study.status()["failed"].tolist() == [2]
    said = study.ledger.log.since(0)[0]
    by_event = {event["event"]: [e for e in said if e["event"] == event["event"]] for event in said}
    assert {e["key"] for e in by_event["run started"]} == {run.key for run in study.runs}
    assert os.getpid() not in {e["process"] for e in by_event["run started"]}
    assert [len(by_event[event]) for event in ("run filed", "run failed", "study started", "study ended")] == [
        4,
        2,
        1,
        1,
    ]
    assert study.ledger.log.running() == {}
    assert "self_t fold 1 seed 3 failed: FloatingPointError: self_t fold 1 seed 3: loss not finite" in study.progress()
    before = sorted(tmp_path.rglob("*"))
    assert study.run(progress=False).failed() == study.failed() and sorted(tmp_path.rglob("*")) == before  # not again
    monkeypatch.undo()
    study.run(progress=False, retry=True)
    assert study.failed() == {} and study.missing() == [] and not list(tmp_path.rglob("*.failed.json"))
    timeless = [frame.results().drop(columns="seconds") for frame in (study, whole)]
    assert timeless[0].equals(timeless[1])


def test_a_worker_that_is_killed_once_costs_nothing(demo, tmp_path, monkeypatch):
    monkeypatch.setenv("MMER_KILLED_ONCE", str(tmp_path / "killed"))
    broken(monkeypatch, once)
    study = small(demo, tmp_path / "ledger").run(progress=False)
    assert (tmp_path / "killed").exists() and study.missing() == [] and study.failed() == {}


def test_a_diverging_run_of_a_stack_is_named_and_the_others_are_trained(demo, tmp_path, monkeypatch):
    from mmer_core.stack import Stack

    real = Stack.step

    def step(stack, states, rows, seeds):
        losses = real(stack, states, rows, seeds)
        return losses.masked_fill(torch.tensor([(s.fold, s.seed) == (1, 3) for s in states]), np.nan)

    monkeypatch.setattr(Stack, "step", step)
    study = small(demo, tmp_path).run(progress=False, device="cpu")
    assert [(run.fold, run.seed) for run in study.failed()] == [(1, 3)] and len(study.results()) == 5


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_workers_end_with_their_parent(demo, tmp_path, how):
    code = f"""
from functools import partial
import mmer_core as mc
from mmer_core import running, study
from faulty import endless
study.in_processes = partial(running.in_processes, work=endless)
mc.Study(mc.open_corpus({str(demo.path)!r}), ["self_t"], [1, 2], [1], ledger={str(tmp_path / "ledger")!r}).run()
"""
    here = {**os.environ, "MMER_ENDLESS": str(tmp_path), "PYTHONPATH": f"{CHECKOUT}:{CHECKOUT / 'tests'}"}
    parent = subprocess.Popen([sys.executable, "-c", code], env=here, stderr=subprocess.DEVNULL)
    try:
        wanted = min(2, os.cpu_count() or 1)
        workers = until(
            lambda: [int(p.name) for p in tmp_path.iterdir() if p.name.isdigit()], lambda w: len(w) >= wanted
        )
        parent.send_signal(how)
        parent.wait(30)
        assert until(lambda: [w for w in workers if alive(w)], lambda left: not left, 15) == []
    finally:
        parent.kill()
        parent.wait()


def alive(pid):
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False


def until(ask, good, seconds=90):
    for _ in range(10 * seconds):
        if good(found := ask()):
            return found
        time.sleep(0.1)
    return ask()


def test_no_more_workers_than_memory_has_room_for(demo, tmp_path, guessed, monkeypatch):
    asked = []

    class Pool(ThreadPoolExecutor):
        def __init__(self, workers, **_):
            asked.append(workers)
            super().__init__(workers)

        def shutdown(self, wait=True, kill_workers=False):
            super().shutdown(wait)

    monkeypatch.setattr(running, "ProcessPoolExecutor", Pool)
    monkeypatch.setattr(running, "cpu_count", lambda: 4)
    need = running.memory(mc.Variant("t"), demo.sizes, SHORT)
    for free, workers in {0.3: 1, 2.5: 2, 3.9: 3}.items():
        monkeypatch.setattr(running, "free_memory", lambda free=free: free * need)
        with pytest.warns(UserWarning, match=rf"{workers} at a time instead of 4: each takes 0\.4 GB, and .* are free"):
            assert small(demo, tmp_path / str(free)).run(progress=False).missing() == []
    monkeypatch.setattr(running, "free_memory", lambda: 4 * need)
    small(demo, tmp_path / "enough").run(progress=False)
    assert asked == [1, 2, 3, 4]


def test_a_worker_at_iemocaps_sizes_takes_what_readme_says():
    sizes = mc.corpus.Sizes(*(mc.corpus.Size(*size) for size in ((128, 300), (32, 2048), (1000, 120))), 7)
    assert round(running.memory(mc.PAPER_VARIANTS["both_tva"], sizes, Protocol()) / 1e9, 1) == 0.7
    assert "0.7 GB" in (CHECKOUT / "README.md").read_text()


@pytest.mark.parametrize("old", ["", "memory"])
def test_the_memory_of_a_container_or_a_job_is_what_counts(tmp_path, monkeypatch, old):
    """As Linux tells it in the new form and in the old one: the job's own group has no limit, the one above it has."""
    name = "memory.limit_in_bytes" if old else "memory.max"
    (tmp_path / old / "user" / "job").mkdir(parents=True)
    for group, limit in {"": "max", "user": str(10**9), "user/job": "max"}.items():
        (tmp_path / old / group / name).write_text(limit + "\n")
    (tmp_path / "cgroup").write_text(f"9:name=systemd:/else\n{4 if old else 0}:{old}:/user/job\n")
    free = provenance.free_memory()
    assert free > 0
    monkeypatch.setattr(provenance, "CGROUPS", (tmp_path / "cgroup", tmp_path))
    assert provenance.free_memory() == min(free, 10**9) or free < 10**9
    (tmp_path / old / "user" / "job" / name).write_text("1000\n")
    assert provenance.free_memory() == 1000


def test_jobs_that_call_nobody_are_asked(demo, tmp_path, guessed):
    """As those of submitit: done() and result(), and no callback."""

    class Job:
        def __init__(self, future):
            self.done, self.result, self.cancel = future.done, future.result, future.cancel

    class Cluster(ThreadPoolExecutor):
        def submit(self, *args):
            return Job(super().submit(*args))

    with Cluster(2) as cluster:
        assert small(demo, tmp_path).run(cluster, progress=False).missing() == []


def test_ten_thousand_waiting_runs_are_not_asked_one_by_one(demo):
    asked = []

    class Quiet(Future):
        def done(self):
            asked.append(self)
            return super().done()

    class Pool:
        def submit(self, work, run):
            futures.append(future := Quiet())
            return future

    futures, runs = [], [ledger_module.Run("x", mc.Variant("t"), 1, seed, SHORT) for seed in range(10_000)]
    found = running.in_processes(demo, runs, Pool())
    started = time.perf_counter()
    threading.Timer(1.0, lambda: futures[77].set_result("done")).start()
    first = next(found)
    assert first[1] == "done" and len(futures) == 10_000 and time.perf_counter() - started < 10
    assert len(asked) < 100
    found.close()


@pytest.mark.parametrize("error", [CancelledError("connection lost"), BrokenExecutor("a worker died")])
@pytest.mark.parametrize("at", ["result", "submit"])
def test_an_executor_that_dies_is_one_error_and_no_run_is_to_blame(demo, tmp_path, guessed, error, at):
    class Dying:
        left = 2

        def submit(self, work, run):
            self.left -= 1
            if at == "submit" and self.left < 0:
                raise BrokenExecutor(*error.args)
            future = Future()
            future.set_result(work(run)) if self.left >= 0 else future.set_exception(error)
            return future

    study = small(demo, tmp_path)
    with pytest.raises(mc.MmerError, match=f"the executor gave up; what is finished is filed, .*: {error}"):
        study.run(Dying(), progress=False)
    assert study.failed() == {} and len(study.missing()) == 4
    with ThreadPoolExecutor(1) as here:
        assert study.run(here, progress=False).missing() == []


def studies(demo, folder, code, n=1):
    """A small study in n processes that begin together, each after some code; what they leave to be waited for."""
    lines = [f"corpus = '{demo.path}'", "ledger = 'runs'", "variants = ['self_t', 'self_v']", "seeds = [1, 2]"]
    (folder / "study.toml").write_text("\n".join([*lines, "margin = 0.02", "[protocol]", "max_epochs = 1"]))
    run = f"import mmer_core as mc\nfrom concurrent.futures import ThreadPoolExecutor as Pool\n{code}\n"
    run += f"mc.open_study({str(folder / 'study.toml')!r}).run(Pool(1))"
    here = {**os.environ, "PYTHONPATH": f"{CHECKOUT}:{CHECKOUT / 'tests'}"}
    said = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    return [subprocess.Popen([sys.executable, "-c", run], env=here, **said) for _ in range(n)]


def test_two_studies_on_one_ledger_from_the_first_moment_on(demo, tmp_path):
    for name in ("both", "alone"):
        (tmp_path / name).mkdir()
    wait = f"import os, time; os.mkdir({str(tmp_path)!r} + f'/{{os.getpid()}}')\n"
    wait += f"while not os.path.exists({str(tmp_path / 'go')!r}): time.sleep(0.001)"
    both = studies(demo, tmp_path / "both", f"mc.open_study; {wait}", 2)
    until(lambda: [p for p in tmp_path.iterdir() if p.name.isdigit()], lambda found: len(found) == 2)
    (tmp_path / "go").touch()
    told = [process.communicate(timeout=120) for process in both]
    assert [process.returncode for process in both] == [0, 0], told
    study = mc.open_study(tmp_path / "both" / "study.toml")
    assert study.missing() == [] and study.failed() == {} and study.verify() == {}
    records = list((tmp_path / "both" / "runs").rglob("run.json"))
    assert len(records) == len(study.runs) == 20
    (alone,) = studies(demo, tmp_path / "alone", "")
    assert alone.communicate(timeout=120) and alone.returncode == 0
    left = [sorted(p.relative_to(tmp_path / x) for p in (tmp_path / x).rglob("*")) for x in ("both", "alone")]
    assert left[0] == left[1]  # nothing else, and nothing half done
    tables = [mc.open_study(tmp_path / x / "study.toml").results().drop(columns="seconds") for x in ("both", "alone")]
    assert tables[0].to_csv() == tables[1].to_csv()


BACK = """
import time, datetime
from mmer_core import ledger
real, began = time.time, time.time()
time.time = lambda: began - 86400 * (real() - began)  # a day back each second
ledger._now = lambda: datetime.datetime.fromtimestamp(time.time(), datetime.timezone.utc).isoformat()
"""


@pytest.mark.slow
def test_a_clock_that_is_set_back_changes_nothing(demo, tmp_path):
    (process,) = studies(demo, tmp_path, BACK)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 0 and "20/20" in said and "-" not in said.split("20/20")[1].split("]")[0]
    study = mc.open_study(tmp_path / "study.toml")
    finished = [study.ledger.read(run).summary["provenance"]["finished"] for run in study.runs]
    assert len(set(finished)) > 1 and max(finished) < "2999"
    assert study.missing() == [] and study.verify() == {} and (study.results()["seconds"] > 0).all()
    assert [*study.results()["seed"]] == [run.seed for run in study.runs] and study.seconds_left(study.runs) > 0


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_a_restarted_kernel_ends_its_workers_and_the_next_session_goes_on(demo, tmp_path):
    jupyter = pytest.importorskip("jupyter_client.manager")
    begin = f"""
import threading, mmer_core as mc
from functools import partial
from mmer_core import running, study
from faulty import endless_but_one
study.in_processes = partial(running.in_processes, work=endless_but_one)
corpus, ledger = mc.open_corpus({str(demo.path)!r}), {str(tmp_path / "ledger")!r}
mine = mc.Study(corpus, ["self_t"], [1, 2, 3], [1], mc.Protocol(max_epochs=1), ledger)
threading.Thread(target=mine.run, kwargs=dict(progress=False)).start()
"""
    here = {**os.environ, "MMER_ENDLESS": str(tmp_path), "PYTHONPATH": f"{CHECKOUT}:{CHECKOUT / 'tests'}"}
    manager, client = jupyter.start_new_kernel(env=here)
    try:
        client.execute_interactive(begin, timeout=90)
        workers = until(
            lambda: [int(p.name) for p in tmp_path.iterdir() if p.name.isdigit()], lambda found: len(found) >= 1
        )
        kept = until(lambda: list((tmp_path / "ledger").rglob("run.json")), lambda found: found)
        manager.restart_kernel()  # as the button does it: in order, and the kernel ends its children itself
        client.wait_for_ready(timeout=90)
        assert until(lambda: [w for w in workers if alive(w)], lambda left: not left, 15) == []
        again = "\n".join(line for line in begin.splitlines() if "endless" not in line).replace(".start()", ".run()")
        told = []
        client.execute_interactive(f"{again}; print(mine)", timeout=90, output_hook=told.append)
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
    assert "3 of 3 runs done" in str(told) and len(kept) == 1
    study = mc.Study(demo, ["self_t"], [1, 2, 3], [1], Protocol(max_epochs=1), tmp_path / "ledger")
    assert study.missing() == [] and study.verify() == {} and study.failed() == {}


# ------------------------------------------------------------------------------------------------- filing


def record(demo, folder):
    run = ledger_module.Run(demo.fingerprint, mc.Variant("t"), 1, 1, SHORT)
    return run, running.trained(str(demo.path), run), ledger_module.Ledger(folder)


def test_a_run_is_filed_where_the_package_is_not_installed(demo, tmp_path, monkeypatch):
    def unknown(package):
        raise importlib.metadata.PackageNotFoundError(package)

    monkeypatch.setattr(importlib.metadata, "version", unknown)
    for known in (provenance.version, provenance.made_here):
        known.cache_clear()
    run, trained, ledger = record(demo, tmp_path)
    assert ledger.write(run, demo, trained).summary["provenance"]["mmer_core"] == "not installed"
    for known in (provenance.version, provenance.made_here):
        known.cache_clear()


def test_what_is_left_of_a_record_is_set_aside_and_the_run_is_filed(demo, tmp_path):
    run, trained, ledger = record(demo, tmp_path)
    place = ledger.write(run, demo, trained).folder
    (place / "run.json").unlink()
    (place / "notes.txt").write_text("of a colleague")
    assert not ledger.has(run)
    again = ledger.write(run, demo, trained)
    assert again.scores and ledger.has(run)
    (aside,) = place.parent.glob(".damaged-*")
    assert (aside / "notes.txt").read_text() == "of a colleague"


def test_colleagues_may_read_all_of_a_record(demo, tmp_path):
    run, trained, ledger = record(demo, tmp_path)
    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in ledger.write(run, demo, trained).folder.iterdir()}
    assert len(set(modes.values())) == 1, modes


def test_two_that_file_the_same_run_leave_one_record(demo, tmp_path):
    run, trained, ledger = record(demo, tmp_path)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: ledger_module.Ledger(tmp_path).write(run, demo, trained), range(16)))
    (folder,) = [p for p in (tmp_path / "self_t").iterdir()]
    assert ledger.has(run) and sorted(p.name for p in folder.iterdir()) == [
        "predictions.npz",
        "run.json",
        "weights.safetensors",
    ]


def test_a_full_disk_leaves_no_half_declaration(demo, tmp_path):
    resource = pytest.importorskip("resource")
    study, before = small(demo, tmp_path), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, before[1]))
    try:
        with pytest.raises(OSError):
            study.run(progress=False)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list(tmp_path.iterdir()) == []


TOLD = r"self_[tv] fold \d seed \d is trained, and cannot be filed in "


def whole_records(ledger):
    """That of the files of a ledger none is half done; returns how many records there are."""
    folders = [p for p in ledger.rglob("*") if p.is_dir() and p.parent != ledger]
    assert all(len(list(p.iterdir())) == 3 and not p.name.startswith(".") for p in folders)
    return len(folders)


def test_a_full_disk_leaves_no_half_record_and_the_study_goes_on_when_there_is_room(demo, tmp_path, guessed):
    """A really small one, where this machine lets us make it."""
    mount = ["mount", "-t", "tmpfs", "-o", "size=100k", "tmpfs", str(tmp_path)]
    if not shutil.which("mount") or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("no small disk can be mounted here")
    try:
        study = small(demo, tmp_path / "ledger")
        with ThreadPoolExecutor(1) as here:
            with pytest.raises(mc.MmerError, match=f"{TOLD}.*No space left.*; what is filed stays"):
                study.run(here, progress=False)
            filed = whole_records(tmp_path / "ledger")
            assert 0 < filed < 6 and len(study.missing()) == 6 - filed and study.failed() == study.verify() == {}
            subprocess.run(["mount", "-o", "remount,size=10m", str(tmp_path)], check=True)
            assert study.run(here, progress=False).missing() == [] and study.verify() == {}
        assert whole_records(tmp_path / "ledger") == 6
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


@pytest.mark.slow
def test_a_file_that_may_not_grow_leaves_no_half_record(demo, tmp_path):
    pytest.importorskip("resource")
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (50_000,) * 2)"  # weights are larger
    (process,) = studies(demo, tmp_path, limit)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 1 and re.search(TOLD, said)
    study = mc.open_study(tmp_path / "study.toml")
    assert whole_records(tmp_path / "runs") == 0 and len(study.missing()) == 20 and study.failed() == {}


@pytest.mark.parametrize("lost", ["run.json", "predictions.npz", "weights.safetensors"])
def test_a_half_renamed_record_is_found_and_its_run_trained_again(demo, tmp_path, guessed, lost):
    """As a disk without order leaves it, or who copies a ledger: the folder has its name, and not all of its files."""
    study = small(demo, tmp_path)
    with ThreadPoolExecutor(1) as here:
        study.run(here, progress=False)
        before, run = study.results(), study.runs[0]
        (tmp_path / run.folder / lost).rename(tmp_path / run.folder / f".{lost}.part")
        opened = small(demo, tmp_path)
        if lost == "run.json":
            assert opened.missing() == [run]
        else:
            assert lost in opened.verify(set_aside=True)[run] and opened.missing() == [run]
        assert opened.run(here, progress=False).verify() == {}
    assert opened.results().equals(before) and len(list(tmp_path.rglob(".damaged-*"))) == 1


@pytest.mark.parametrize("device", ["gpu", "cuda:99", "nonsense"])
def test_a_device_that_is_not_there_is_told_before_anything_is_noted(demo, tmp_path, device):
    with pytest.raises(mc.MmerError, match=f"device: .*{device}"):
        small(demo, tmp_path / "ledger").run(device=device)
    assert not (tmp_path / "ledger").exists()


def test_a_store_that_changed_meanwhile_ends_the_study_and_fails_no_run(demo, tmp_path):
    store = shutil.copytree(demo.path, tmp_path / "store")
    study = small(mc.open_corpus(store), tmp_path / "ledger")
    noted = json.loads((store / "corpus.json").read_text())
    (store / "corpus.json").write_text(json.dumps(noted | {"fingerprint": "0123456789abcdef"}))
    with pytest.raises(mc.MmerError, match="has changed since the study was opened"):
        study.run(progress=False)
    assert study.failed() == {} and len(study.missing()) == 6


def test_kernels_are_kept_in_some_place_that_can_be_written_to(tmp_path):
    """Also in a container without a home, from a checkout that only another user may write to."""
    package = tmp_path / "mmer_core"
    shutil.copytree(CHECKOUT / "mmer_core", package, ignore=shutil.ignore_patterns("__pycache__"))
    (package / "kernels" / "__pycache__").write_text("in the way")
    code = "from mmer_core.kernels import machinery; print(machinery.cache_folder())"
    bare = {"PATH": os.environ["PATH"], "HOME": "/dev/null", "PYTHONDONTWRITEBYTECODE": "1", "TMPDIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=bare, capture_output=True, text=True)
    assert done.stdout.startswith(str(tmp_path / "mmer-")), done.stderr


def test_status_is_told_on_a_terminal_that_knows_few_letters(demo, tmp_path):
    (tmp_path / "data").mkdir()
    shutil.copytree(demo.path, tmp_path / "data" / "Gefühle ☂")
    (tmp_path / "data" / "study.toml").write_text('corpus = "Gefühle ☂"', encoding="utf-8")
    noted = json.loads((tmp_path / "data" / "Gefühle ☂" / "corpus.json").read_text())
    (tmp_path / "data" / "Gefühle ☂" / "corpus.json").write_text(json.dumps(noted | {"name": "Gefühle ☂"}))
    here = {**os.environ, "MMER_ROOT": str(tmp_path), "PYTHONIOENCODING": "cp1252"}
    done = subprocess.run([sys.executable, "-m", "mmer_core", "status"], env=here, capture_output=True, cwd=CHECKOUT)
    assert done.returncode == 0 and "Gefühle ?".encode("cp1252") in done.stdout, done.stderr


# ------------------------------------------------------------------------------------------------- damage


def written(demo, folder):
    run, trained, ledger = record(demo, folder)
    ledger.write(run, demo, trained)
    return run, ledger


@pytest.mark.parametrize("name", ["run.json", "predictions.npz", "weights.safetensors"])
def test_every_flipped_bit_of_a_record_is_found(demo, tmp_path, name):
    run, ledger = written(demo, tmp_path)
    file = ledger.folder / run.folder / name
    whole, rng = file.read_bytes(), np.random.default_rng(len(name))
    assert ledger.verify(run) is None
    for at in rng.choice(8 * len(whole), 100, replace=False):
        flipped = bytearray(whole)
        flipped[at // 8] ^= 1 << at % 8
        file.write_bytes(flipped)
        assert ledger_module.Ledger(tmp_path).verify(run), f"bit {at}"
    file.write_bytes(whole[: len(whole) // 2])
    assert name in ledger_module.Ledger(tmp_path).verify(run)


LIES = {
    "accuracy": {"scores": {"accuracy": 7.3}},
    "a negative count": {"counts": {"train": -1, "dev": 140, "test": 140}},
    "other counts": {"counts": {"train": 420, "dev": 140, "test": 139}},
    "a best epoch that was not": {"best_epoch": 9},
    "dev accuracy": {"dev_accuracy": 1.5},
    "another fold": {"run": {"fold": 2}},
    "another corpus": {"run": {"corpus": "0123456789abcdef"}},
}


@pytest.mark.parametrize("lie", LIES)
def test_a_record_that_lies_is_refused_though_nobody_guards_it(demo, tmp_path, lie):
    run, ledger = written(demo, tmp_path)
    file = ledger.folder / run.folder / "run.json"
    held = {name: value for name, value in json.loads(file.read_text()).items() if name not in ("digest", "files")}
    file.write_text(json.dumps(held))
    assert ledger.find(run).scores and ledger.verify(run) is None  # as records of before
    changed = {k: {**held[k], **v} if isinstance(v, dict) else v for k, v in LIES[lie].items()}
    file.write_text(json.dumps(held | changed))
    with pytest.raises(mc.CorpusError, match=r"run\.json"):
        ledger_module.Ledger(tmp_path).find(run)


def test_damaged_records_are_set_aside_and_trained_again(demo, tmp_path, capsys):
    lines = [f"corpus = '{demo.path}'", "ledger = 'runs'", "variants = ['self_t']", "seeds = [1, 2]", "folds = [1]"]
    (tmp_path / "study.toml").write_text("\n".join([*lines, "[protocol]", "max_epochs = 1"]))
    study = mc.open_study(tmp_path / "study.toml").run(progress=False)
    before = study.results().drop(columns="seconds")
    weights = next(tmp_path.rglob("fold1_seed2*/weights.safetensors"))
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    from mmer_core.__main__ import main

    assert main(["--study", str(tmp_path / "study.toml"), "status", "--verify"]) == 0
    told = capsys.readouterr().out
    assert "self_t fold 1 seed 2 is set aside" in told and "weights.safetensors" in told and "seed 1 is" not in told
    assert [run.seed for run in study.missing()] == [2] and len(list(tmp_path.rglob(".damaged-*"))) == 1
    again = mc.open_study(tmp_path / "study.toml").run(progress=False)
    assert again.results().drop(columns="seconds").equals(before) and again.verify() == {}


def test_without_weights_all_is_exported_but_what_needs_them(demo, tmp_path, monkeypatch):
    monkeypatch.setattr(stats, "twins", lambda twins=stats.twins: twins(20))
    monkeypatch.setattr(stats, "across_calibration", lambda studies, f=stats.across_calibration: f(50))
    study = mc.Study(demo, ["self_ta", "cross_ta"], [1], [1, 2, 3], SHORT, tmp_path / "ledger", margin=0.02)
    study.run(progress=False, device="cpu")
    for file in tmp_path.rglob("self_ta/*/weights.safetensors"):
        file.unlink()  # to save room, in a way that the record does not know
    assert study.prune("cross_*")[0] == 3 and study.verify().keys() == {
        r for r in study.runs if r.variant.name == "self_ta"
    }
    names = {
        file.stem
        for file in mc.export(
            mc.Study(demo, study.variants, [1], [1, 2, 3], SHORT, tmp_path / "ledger", margin=0.02), tmp_path / "out"
        )
    }
    assert {"scores", "results", "report"} <= names and not any(name.startswith("attention") for name in names)
    told = (tmp_path / "out" / "report.txt").read_text()
    assert "weights.safetensors" in told and str(tmp_path) not in told


# ------------------------------------------------------------------------------------------------- the index


def indexed(demo, folder, monkeypatch):
    """A study of four records that are one and the same training, and an index of them; and its results."""
    monkeypatch.setattr(ledger_module, "INDEX_FROM", 4)
    study = small(demo, folder, seeds=(1, 2, 3, 4), folds=(1,))
    trained = running.trained(str(demo.path), study.runs[0])
    for run in study.runs:
        ledger_module.Ledger(folder).write(run, demo, trained)
    assert not (folder / "index.json").exists()
    results = study.results()
    assert len(results) == 4 and (folder / "index.json").is_file()
    return study, results


def opened(study, monkeypatch):
    """Results and recalls of a newly opened ledger, and how many records were read for them."""
    reads, real = [], record_module.guarded
    with monkeypatch.context() as patch:
        patch.setattr(record_module, "guarded", lambda data: reads.append(data) or real(data))
        fresh = mc.Study(study.corpus, study.variants, study.seeds, study.folds, study.protocol, study.ledger.folder)
        return fresh.results(), fresh.recalls(), len(reads)


def test_an_index_saves_reading_the_records_and_is_believed_of_unchanged_ones_only(demo, tmp_path, monkeypatch):
    study, results = indexed(demo, tmp_path, monkeypatch)
    found, recalls, reads = opened(study, monkeypatch)
    assert found.equals(results) and recalls.equals(study.recalls()) and reads == 0
    file = tmp_path / study.runs[1].folder / "run.json"
    kept = {name: value for name, value in json.loads(file.read_text()).items() if name != "digest"}
    before = file.read_bytes()
    (tmp_path / "new").write_bytes(record_module.with_guard(kept | {"seconds": 77.0}))
    os.replace(tmp_path / "new", file)
    found, _, reads = opened(study, monkeypatch)
    assert found["seconds"].tolist().count(77.0) == 1 and reads == 1
    file.write_bytes(before)
    state = file.stat()
    small(demo, tmp_path, seeds=(1, 2, 3, 4), folds=(1,)).results()
    flipped = bytearray(before)
    flipped[len(flipped) // 2] ^= 1  # by the disk: no time or size tells
    file.write_bytes(flipped)
    os.utime(file, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert [run.seed for run in study.verify()] == [2]


@pytest.mark.parametrize(
    "damage", [lambda b: b"", lambda b: b"[]", lambda b: b[: len(b) // 2], lambda b: b.replace(b"0", b"1", 1)]
)
def test_a_damaged_index_costs_time_only(demo, tmp_path, monkeypatch, damage):
    study, results = indexed(demo, tmp_path, monkeypatch)
    (tmp_path / "index.json").write_bytes(damage((tmp_path / "index.json").read_bytes()))
    found, _, reads = opened(study, monkeypatch)
    assert found.equals(results) and reads == 4
    assert opened(study, monkeypatch)[2] == 0  # it was made anew


# ------------------------------------------------------------------------------------------------- the log


def test_lines_of_several_processes_do_not_mix_and_half_lines_are_left_out(tmp_path):
    log = Log(tmp_path / "events.jsonl")
    code = f"from mmer_core.events import Log\nfrom pathlib import Path\nlog = Log(Path({str(log.file)!r}))\n"
    code += "for n in range(500): log.say('run filed', key=str(n), told='x' * n)"
    many = [subprocess.Popen([sys.executable, "-c", code], cwd=CHECKOUT) for _ in range(2)]
    assert [one.wait(60) for one in many] == [0, 0]
    events, end = log.since(0)
    assert sorted(int(e["key"]) for e in events) == sorted(2 * [*range(500)]) and end == log.file.stat().st_size
    assert all(len(e["told"]) == int(e["key"]) for e in events)
    with log.file.open("ab") as file:
        file.write(b'{"utc": "2026-01-01", "event": "run fi')
    assert log.since(end) == ([], end)  # not whole yet
    log.say("study ended")
    assert [e["event"] for e in log.since(end)[0]] == ["study ended"]
    for line in (b"[]\n", b"7\n", b"\xff\n", b'{"event": 1}\n', b"\n"):
        log.file.write_bytes(line)
        assert log.since(0) == ([], len(line)) and log.running() == {}
    log.say("study ended")
    assert len(log.since(10**6)[0]) == 1  # it was taken away, and begun anew


@pytest.mark.skipif(sys.platform == "win32", reason="unknown there")
def test_running_are_the_runs_of_living_processes(demo, tmp_path):
    study = small(demo, tmp_path)
    a, b, c = study.runs[:3]
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    log = study.ledger.log
    log.say("run started", run=str(a), key=a.key)
    Log(log.file, dead.pid).say("run started", run=str(b), key=b.key)
    log.say("run started", run=str(c), key=c.key)
    log.say("run failed", run=str(c), key=c.key)
    watch = Watch(study, study.runs)
    log.say("run goes on", run=str(a), key=a.key, told="epoch 2")
    assert watch.news() and (watch.done, watch.last) == (0, f"{a}: epoch 2")
    assert log.running().keys() == {a.key} and study.status()["running"].tolist() == [1]
    log.file.write_text(log.file.read_text().replace(socket.gethostname(), "elsewhere"))
    assert log.running() == {}
    log.file.unlink()
    Log(log.file, host="elsewhere").say("run started", run=str(a), key=a.key)
    assert not log.file.exists()  # a worker on another machine leaves the file alone


@pytest.mark.parametrize("way", ["threads", "stack"])
def test_a_long_run_tells_how_far_it_is(demo, tmp_path, monkeypatch, way):
    monkeypatch.setattr(running, "PULSE", 0.0)
    study = mc.Study(demo, ["self_t"], [1], [1, 2], Protocol(max_epochs=3), tmp_path / "ledger")
    with ThreadPoolExecutor(1) as threads:
        study.run(progress=False, **({"device": "cpu"} if way == "stack" else {"executor": threads}))
    for run in study.runs:
        mine = [event for event in study.ledger.log.since(0)[0] if event.get("key") == run.key]
        assert [e["event"] for e in mine] == ["run started", "run goes on", "run goes on", "run filed"]
        for event, at in zip(mine[1:3], study.ledger.read(run).curve, strict=False):
            assert event["told"] == f"epoch {at['epoch']} of 3 at most, accuracy {at['dev_accuracy']:.3f} on dev"
    paper = Run(demo.fingerprint, mc.Variant("t"), 1, 1, Protocol())  # which knows no last epoch
    running.hearing(study.ledger.log, paper)(SimpleNamespace(stopped=False, curve=[{"dev_accuracy": 0.25}]))
    assert study.ledger.log.since(0)[0][-1]["told"] == "epoch 1, accuracy 0.250 on dev"


# ------------------------------------------------------------------------------------------------- without weights


def test_pruned_weights_are_said_to_be_and_come_again_bit_for_bit(demo, tmp_path):
    study = small(demo, tmp_path, seeds=(1,), folds=(1,))
    (run,) = study.runs
    folder = study.ledger.write(run, demo, running.trained(str(demo.path), run)).folder
    before, results = {file.name: file.read_bytes() for file in folder.iterdir()}, study.results()
    assert study.prune("self_t") == (1, len(before["weights.safetensors"]))
    assert sorted(file.name for file in folder.iterdir()) == ["predictions.npz", "run.json"]
    assert study.verify() == {} and study.results().equals(results) and study.missing() == []
    assert len(study.record("self_t", 1, 1).predictions()["ids"]) == results["n_test"][0]
    with pytest.raises(mc.CorpusError, match=r"pruned; `python -m mmer_core rerun self_t/1/1` makes them again"):
        study.model("self_t", 1, 1)
    assert record_module.as_written((folder / "run.json").read_bytes()) == before["run.json"]  # bundles stay valid
    (folder / "weights.safetensors").write_bytes(b"what a killed prune left")
    assert study.prune("*") == (1, 24) and study.verify() == {}
    assert not study.ledger.restore(run, {"other": np.zeros(3)}) and study.record("self_t", 1, 1).pruned
    assert study.rerun(run) == []
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before
    with pytest.raises(mc.MmerError, match="no variant"):
        study.prune("cross_*")
