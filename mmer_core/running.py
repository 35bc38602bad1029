"""How missing runs are trained: in processes, one core each, or stacked on a device; and the progress bar."""

import contextlib
import os
import signal
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import BrokenExecutor, CancelledError
from dataclasses import replace
from functools import lru_cache, partial
from queue import Empty, SimpleQueue
from threading import Event, Thread
from typing import Any

import numpy as np
import torch
from loky import ProcessPoolExecutor, cpu_count
from tqdm import tqdm

import mmer_core.views  # noqa: F401  # how a corpus crosses to another process
from mmer_core.checkpoint import Resuming
from mmer_core.corpus import MODALITIES, Corpus, Sizes, open_store
from mmer_core.errors import MmerError
from mmer_core.events import Log
from mmer_core.ledger import Run
from mmer_core.protocol import Protocol
from mmer_core.provenance import free_memory, made_here
from mmer_core.stack import train_stack
from mmer_core.training import RunState, Trained, Trainer, train
from mmer_core.variant import Variant, effort

# glibc hands large arrays back to the system at once; to ask for them again in every step costs 7% at IEMOCAP's sizes
KEEP_MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(2**25), "MALLOC_TRIM_THRESHOLD_": str(2**32)}  # no glibc takes more

Finished = Generator[tuple[Any, Any], None, None]  # a run, and what came of it: what its work returned, or an error
IDLE = None, None  # nothing finished for a while
Work = Callable[..., Any]  # of a corpus and a run; `trained` takes a log, too
NEVER = Event()  # nobody sets it
GONE = BrokenExecutor, CancelledError  # errors of an executor, and of no run
LEFT = "the executor gave up; what is finished is filed, and another one, or none, trains the rest"
LOST = "its worker process was killed, by itself or for want of memory"
TOLD = "workers were told to end, as by a kernel that shuts down; what is finished is filed, `run` trains the rest"
PULSE = 30.0  # seconds from one word about a long run to the next
STRIKES = 2  # lost workers after which a run of theirs is tried alone
# What loky takes for a leak: checks of long utterances hold large arrays for a while. A restart costs nothing.
warnings.filterwarnings("ignore", "A worker was restarted", UserWarning, "loky")
_open_once = lru_cache(maxsize=1)(open_store)  # each worker process keeps its corpus open


def trained(store: str | Corpus, run: Run, resume: bool = True, log: Log | None = None) -> Trained:
    """Train one run, or what is left of one that was killed; what comes of it can travel between machines."""
    corpus = opened(store, run)
    heard = hearing(log, run) if log else lambda state: None
    trainer = Resuming(corpus, run.identity, heard) if resume else Trainer(corpus, heard)
    done = train(corpus, run.variant, run.fold, run.seed, run.protocol, trainer)
    made = made_here() | ({"resumed": f"after epoch {epochs}"} if (epochs := getattr(trainer, "resumed", 0)) else {})
    return replace(done, weights={name: np.asarray(w) for name, w in done.weights.items()}, made=made)


def hearing(log: Log, run: Run) -> Callable[[RunState], None]:
    """Says in the log how far a run is, now and then."""
    last = time.monotonic()

    def heard(state: RunState) -> None:
        nonlocal last
        if not state.stopped and (now := time.monotonic()) - last >= PULSE:
            most = f" of {run.protocol.max_epochs} at most" if run.protocol.max_epochs else ""
            told = f"epoch {len(state.curve)}{most}, accuracy {state.curve[-1]['dev_accuracy']:.3f} on dev"
            log.say("run goes on", run=str(run), key=run.key, told=told)
            last = now

    return heard


def _begun(log: Log, work: partial, run: Run) -> Any:
    """Done by a worker: say that it begins a run, and train it."""
    log.say("run started", run=str(run), key=run.key)
    return work(run, log=log)


def in_processes(
    corpus: Corpus,
    runs: Sequence[Any],
    executor=None,
    stop: Event = NEVER,
    work: Work = trained,
    log: Log | None = None,
) -> Finished:
    """Train runs with an executor; by default in processes of our own, one per core with one thread each.

    `work` may do something else with them, or with what has a variant, too. What fails is handed over with its error,
    and the others go on; MmerError ends it: it is of all runs, or the executor broke or lost its runs. When `stop` is
    set no more runs are begun, and those in flight in our own processes are given up at once. With a log, workers
    say there what they begin, `work` is told it, and IDLE is handed over now and then: it may be time to read it.
    """
    work = partial(work, corpus if corpus.view else str(corpus.path))
    work = partial(_begun, log, work) if log else work
    longest_first = sorted(runs, key=lambda run: effort(run.variant, corpus.sizes), reverse=True)  # all cores stay busy
    if executor is None:
        yield from in_own(work, longest_first, workers_for(runs, corpus.sizes), stop, idle=bool(log))
        return
    flight = _Flight(executor, work, len(runs))
    try:
        while flight.fill(longest_first) and not stop.is_set():
            yield from ((run, outcome) for run, outcome in flight.landed() if not isinstance(outcome, GONE))
            yield from [IDLE] * bool(log)
        if flight.broken:
            raise MmerError(f"{LEFT}: {flight.broken}")
    finally:
        flight.cancel()


def in_own(work: partial, waiting: list, workers: int, stop: Event = NEVER, idle: bool = False) -> Finished:
    """In processes of our own. Who is killed takes others down: a run that was there twice is tried again alone."""
    strikes = Counter[Any]()
    kept = KEEP_MEMORY if work.func in (_begun, trained) else {}  # other work has large arrays now and then
    while waiting and not stop.is_set():
        alone = strikes[waiting[0]] >= STRIKES
        # not loky's shared ones: to stop this training must not end another one
        pool = ProcessPoolExecutor(1 if alone else workers, initializer=start_worker, initargs=(os.getpid(),), env=kept)
        flight = _Flight(pool, work, 1 if alone else workers + 1)
        try:
            alike = partial(_alike, strikes, alone)
            while flight.fill(waiting, alike) and not stop.is_set():
                for run, outcome in flight.landed():
                    if not isinstance(outcome, GONE):
                        yield run, outcome
                    elif "SIGTERM" in str(outcome):  # loky tells; no crash, and no want of memory
                        raise MmerError(TOLD)
                    elif alone:
                        yield run, RuntimeError(LOST)
                    else:
                        strikes[run] += 1
                        waiting.append(run)
                yield from [IDLE] * idle
        finally:
            pool.shutdown(wait=True, kill_workers=bool(flight.runs))


def _alike(strikes: Counter, alone: bool, run: Any) -> bool:
    return (strikes[run] >= STRIKES) == alone


class _Flight:
    """Runs on their way through an executor."""

    def __init__(self, executor, work: Callable[[Any], Any], room: int):
        self.executor, self.work, self.room = executor, work, room
        self.broken: Exception | None = None
        self.runs: dict[Any, Any] = {}  # by future
        self._news: SimpleQueue = SimpleQueue()
        self._mute: list = []  # futures that call nobody when they are done, such as submitit's jobs
        # a dask client takes equal calls for the same one, and would tell an old failure again
        self._said = {"pure": False} if type(executor).__module__.startswith("distributed") else {}

    def fill(self, waiting: list, fits: Callable[[Any], bool] = lambda run: True) -> bool:
        """Begin as many of those that wait as there is room for; returns whether any is on its way."""
        while waiting and len(self.runs) < self.room and not self.broken and fits(waiting[0]):
            try:
                future = self.executor.submit(self.work, waiting[0], **self._said)
            except BrokenExecutor as error:  # it does not know yet what became of those that it has
                self.broken = error
                break
            self.runs[future] = waiting.pop(0)
            if hasattr(future, "add_done_callback"):
                future.add_done_callback(self._news.put)
            else:
                self._mute.append(future)
        return bool(self.runs)

    def landed(self) -> Finished:
        """What is done by now, after a short while at most."""
        with contextlib.suppress(Empty):
            done = [self._news.get(timeout=0.2)]
            while not self._news.empty():
                done.append(self._news.get())
            yield from map(self._outcome, done)
        for future in [f for f in self._mute if f.done()]:
            self._mute.remove(future)
            yield self._outcome(future)

    def _outcome(self, future) -> tuple[Any, Any]:
        run = self.runs.pop(future)
        try:
            return run, future.result()
        except MmerError:
            raise
        except Exception as error:
            self.broken = error if isinstance(error, GONE) else self.broken
            return run, error

    def cancel(self) -> None:
        for future in self.runs:
            future.cancel()


def in_stacks(corpus: Corpus, runs: Sequence[Run], device: str, stop: Event, log: Log) -> Finished:
    """Train all runs of a variant at once on one device; a stack that does not fit into it is halved.

    When `stop` is set, it ends as soon as the next run of the stack is done.
    """
    fits = len(runs)
    for variant in dict.fromkeys(run.variant for run in runs):
        waiting = {(run.fold, run.seed): run for run in runs if run.variant == variant}
        while waiting:
            stack = list(waiting)[:fits]
            for run in (waiting[place] for place in stack):
                log.say("run started", run=str(run), key=run.key)
            heard = {place: hearing(log, waiting[place]) for place in stack}

            def tell(state: RunState, heard: dict = heard) -> None:
                heard[state.fold, state.seed](state)

            try:
                for place, outcome in train_stack(corpus, variant, stack, waiting[stack[0]].protocol, device, tell):
                    yield waiting.pop(place), outcome
                    if stop.is_set():
                        return
            except torch.cuda.OutOfMemoryError:
                left = sum(place in waiting for place in stack)
                if left == 1:
                    raise
                fits = -(-left // 2)  # from now on


def check_device(device: str | None) -> None:
    """MmerError unless there is such a device, before anything is noted or begun."""
    try:
        torch.zeros(1, device="cpu" if device is None else device).item()
    except Exception as error:  # torch has many, by device and build
        raise MmerError(
            f"device: one that torch can use here, such as 'cpu' or 'cuda'; got {device!r}: {error}"
        ) from None


def workers_for(runs: Sequence[Any], sizes: Sizes) -> int:
    """How many processes train runs here: one per core, or fewer, with a warning, where memory has no room for them."""
    cores, free = min(cpu_count(), len(runs)), free_memory()
    need = max(memory(run.variant, sizes, getattr(run, "protocol", Protocol())) for run in runs)
    workers = max(1, min(cores, int(free / need)))
    if workers < cores:
        said = (
            f"{workers} at a time instead of {cores}: each takes {need / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free"
        )
        warnings.warn(f"runs are trained {said}", stacklevel=2)
    return workers


def memory(variant: Variant, sizes: Sizes, protocol: Protocol) -> float:
    """Bytes that a process takes to train a run, at most: measured are 60 to 96% of it, on long corpora half."""
    steps = sum(size.length * size.dim for size in (getattr(sizes, MODALITIES[m]) for m in variant.modalities))
    return 0.35e9 + 12 * steps * protocol.batch_size * np.dtype(protocol.precision).itemsize


def start_worker(parent: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # an interrupt is the notebook's affair; it ends its workers itself
    torch.set_num_threads(1)
    Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: int) -> None:
    """Nobody waits for what an orphan trains: it would go on for hours."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def opened(store: str | Corpus, run: Run) -> Corpus:
    """The corpus of a run, kept open in this process; a view comes as itself."""
    corpus = _open_once(store) if isinstance(store, str) else store
    if corpus.fingerprint != run.corpus:
        raise MmerError(f"{corpus.path} has changed since the study was opened")
    return corpus


class _NotebookBar(tqdm):
    """A progress bar that an executed notebook keeps in its last state, as one line of text."""

    def __init__(self, *args, **kwargs):
        from IPython.display import display

        self._handle = display({"text/plain": ""}, raw=True, display_id=True)
        super().__init__(*args, **kwargs)

    def display(self, msg: str | None = None, pos: int | None = None) -> None:
        self._handle.update({"text/plain": msg or str(self)}, raw=True)


def progress_bar(total: int, disable: bool = False) -> tqdm:
    """A tqdm bar for the place we are in: a terminal, or a notebook."""
    kernel = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    notebook = hasattr(kernel, "kernel") and not disable
    bar = (_NotebookBar if notebook else tqdm)(total=total, unit="run", disable=disable, ncols=100, smoothing=0)
    bar._time = time.monotonic  # its own clock may be set back meanwhile
    bar.start_t = bar.last_print_t = time.monotonic()
    return bar
