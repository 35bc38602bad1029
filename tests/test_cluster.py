"""A study on a cluster: a real scheduler and two workers, started by their own commands, over TCP."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
import time

import pytest
from conftest import CHECKOUT

import mmer_core as mc
from mmer_core.protocol import Protocol

distributed = pytest.importorskip("distributed")


@contextlib.contextmanager
def process(*arguments, folder):
    """A command of dask in a process of its own, with a file of what it says."""
    here = {**os.environ, "PYTHONPATH": f"{CHECKOUT}:{CHECKOUT / 'tests'}", "PYTHONWARNINGS": "ignore"}
    log = folder / f"{arguments[0]}-{time.monotonic_ns()}.log"
    with open(log, "w") as said:
        started = subprocess.Popen(
            [sys.executable, "-m", "distributed.cli.dask_" + arguments[0], *arguments[1:]],
            stdout=said, stderr=said, env=here, cwd=folder,
        )  # fmt: skip
    try:
        yield started, log
    finally:
        started.kill()
        started.wait()


def said(log, pattern, seconds=60):
    for _ in range(10 * seconds):
        if found := re.search(pattern, log.read_text()):
            return found[1]
        time.sleep(0.1)
    raise AssertionError(log.read_text()[-2000:])


@pytest.fixture
def cluster(tmp_path):
    """The address of a scheduler, and its two workers."""
    with contextlib.ExitStack() as running:
        start = lambda *a: running.enter_context(process(*a, folder=tmp_path))  # noqa: E731
        _, log = start("scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard")
        address = said(log, r"Scheduler at: +(tcp://\S+)")
        workers = [start("worker", address, "--nthreads", "1", "--no-dashboard", "--no-nanny") for _ in range(2)]
        yield address, workers, start


def small(demo, folder):
    return mc.Study(demo, ["self_t", "cross_ta"], [1, 2], [1, 2], Protocol(max_epochs=1), folder, margin=0.02)


@pytest.mark.filterwarnings("ignore")
def test_a_cluster_gives_the_bits_of_this_machine_and_survives_a_worker(demo, tmp_path, cluster):
    address, workers, start = cluster
    here = small(demo, tmp_path / "here").run(progress=False)
    study = small(demo, tmp_path / "there")
    with distributed.Client(address) as client:
        client.wait_for_workers(2, timeout=60)
        threading.Timer(3, workers[0][0].send_signal, [signal.SIGKILL]).start()  # one leaves, in mid-run
        start("worker", address, "--nthreads", "1", "--no-dashboard", "--no-nanny")  # and another joins
        study.run(client, progress=False)
        client.submit(lambda: 1).result()
    assert study.failed() == {} and study.missing() == []
    tables = [one.results().drop(columns="seconds") for one in (here, study)]
    assert tables[0].equals(tables[1])
    for run in here.runs:
        pairs = [one.record(run.variant.name, run.fold, run.seed).weights() for one in (here, study)]
        assert all((pairs[0][name] == pairs[1][name]).all() for name in pairs[0])


@pytest.mark.filterwarnings("ignore")
def test_a_client_that_saw_a_failure_once_tries_again(demo, tmp_path, cluster, monkeypatch):
    from functools import partial

    from faulty import faulty

    from mmer_core import running

    study = mc.Study(demo, ["self_t"], [3], [1, 2], Protocol(max_epochs=1), tmp_path / "ledger")
    with distributed.Client(cluster[0]) as client:
        client.wait_for_workers(2, timeout=60)
        with monkeypatch.context() as patch:
            patch.setattr("mmer_core.study.in_processes", partial(running.in_processes, work=faulty))
            study.run(client, progress=False)
        assert [(run.fold, run.seed) for run in study.failed()] == [(1, 3)]
        assert study.run(client, progress=False, retry=True).missing() == []
