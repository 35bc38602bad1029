"""A study on a cluster: a real scheduler and two workers, started by their own commands, over TCP."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

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
    """The address of a scheduler, its two workers, what starts more, and the scheduler's process."""
    with contextlib.ExitStack() as running:
        start = lambda *a: running.enter_context(process(*a, folder=tmp_path))  # noqa: E731
        scheduler, log = start("scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard")
        address = said(log, r"Scheduler at: +(tcp://\S+)")
        workers = [start("worker", address, *WORKER) for _ in range(2)]
        yield address, workers, start, scheduler


def small(demo, folder, seeds=(1, 2)):
    return mc.Study(demo, ["self_t", "cross_ta"], seeds, [1, 2], Protocol(max_epochs=1), folder, margin=0.02)


def when(true, act, *arguments):
    """Do something as soon as something is true, aside."""

    def wait():
        while not true():
            time.sleep(0.02)
        act(*arguments)

    (thread := threading.Thread(target=wait, daemon=True)).start()
    return thread


WORKER = "--nthreads", "1", "--no-dashboard", "--no-nanny"


@pytest.mark.filterwarnings("ignore")
def test_a_cluster_gives_the_bits_of_this_machine_and_survives_a_worker(demo, tmp_path, cluster):
    address, workers, start, _ = cluster
    here = small(demo, tmp_path / "here").run(progress=False)
    study = small(demo, tmp_path / "there")
    with distributed.Client(address) as client:
        client.wait_for_workers(2, timeout=60)
        threading.Timer(3, workers[0][0].send_signal, [signal.SIGKILL]).start()  # one leaves, in mid-run
        start("worker", address, *WORKER)  # and another is on its way
        study.run(client, progress=False)
        client.submit(lambda: 1).result()
    assert study.failed() == {} and study.missing() == []
    begun = {e["key"] for e in study.ledger.log.since(0)[0] if e["event"] == "run started"}
    assert begun == {run.key for run in study.runs}  # workers of this machine say so
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


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_scheduler_that_dies_in_mid_study_is_one_error_and_another_executor_goes_on(demo, tmp_path, cluster):
    address, scheduler = cluster[0], cluster[3]
    study = small(demo, tmp_path / "ledger", range(1, 7))
    done = lambda: len(study.runs) - len(study.missing())  # noqa: E731
    with distributed.Client(address) as client:
        client.wait_for_workers(2, timeout=60)
        when(lambda: done() >= 4, scheduler.kill)
        with pytest.raises(mc.MmerError, match=r"the executor gave up; what is finished is filed.*connection-lost"):
            study.run(client, progress=False)
    kept = {run: study.ledger.read(run).summary for run in study.runs if study.ledger.has(run)}
    assert 4 <= len(kept) < 24 and study.failed() == {}  # no run is to blame
    with ThreadPoolExecutor(1) as here:
        assert study.run(here, progress=False).missing() == []
    assert all(study.ledger.read(run).summary == summary for run, summary in kept.items())


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_worker_that_joins_in_mid_study_trains_too(demo, tmp_path, cluster):
    """The first two leave in mid-study: without those that joined, nobody would train the rest."""
    address, workers, start, _ = cluster
    study = small(demo, tmp_path / "ledger", range(1, 7))
    done = lambda: len(study.runs) - len(study.missing())  # noqa: E731
    with distributed.Client(address) as client:
        client.wait_for_workers(2, timeout=60)
        first = set(client.scheduler_info(n_workers=-1)["workers"])
        joined = when(lambda: done() >= 2, start, "worker", address, *WORKER)

        def leave():
            for worker, _ in workers:
                worker.terminate()

        when(lambda: set(client.scheduler_info(n_workers=-1)["workers"]) - first, leave)
        study.run(client, progress=False)
        joined.join()
        assert not first & set(client.scheduler_info(n_workers=-1)["workers"])
    assert study.failed() == {} and study.missing() == []


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_two_hundred_runs_on_a_cluster_and_here_give_the_same_tables(demo, tmp_path, cluster):
    def whole(folder):
        variants, seeds, protocol = ["self_t", "self_v", "self_ta", "cross_ta"], range(1, 11), Protocol(max_epochs=1)
        return mc.Study(demo, variants, seeds, None, protocol, tmp_path / folder, margin=0.02)

    started, took = time.perf_counter(), {}
    here, there = whole("here").run(progress=False), whole("there")
    took["loky"] = time.perf_counter() - started
    with distributed.Client(cluster[0]) as client:
        client.wait_for_workers(2, timeout=60)
        there.run(client, progress=False)
    took["dask"] = time.perf_counter() - started - took["loky"]
    assert len(here.runs) == 200 and here.missing() == there.missing() == []
    print({name: round(seconds, 1) for name, seconds in took.items()})
    for table in (lambda s: s.results().drop(columns="seconds"), lambda s: s.learning_curves(), lambda s: s.recalls()):
        assert table(here).to_csv().encode() == table(there).to_csv().encode()
    verdicts = [mc.stats.verdict_table(study.comparisons()).to_csv().encode() for study in (here, there)]
    assert verdicts[0] == verdicts[1]
