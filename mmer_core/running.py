"""How missing runs are trained and filed: in processes, one core each, or stacked on a device; and the progress bar."""

import signal
import sys
import time
import warnings
from collections.abc import Callable, Generator, Sequence
from functools import lru_cache
from pathlib import Path
from threading import Event
from typing import Any

import torch
from loky import ProcessPoolExecutor, cpu_count
from tqdm import tqdm

import mmer_core.views  # noqa: F401  # how a corpus crosses to another process
from mmer_core.corpus import Corpus, Sizes, open_store
from mmer_core.ledger import Ledger, Run
from mmer_core.stack import train_stack
from mmer_core.training import train
from mmer_core.variant import Variant

# glibc hands large arrays back to the system at once; to ask for them again in every step costs 7% at IEMOCAP's sizes
KEEP_MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(2**25), "MALLOC_TRIM_THRESHOLD_": str(2**32)}  # no glibc takes more

Finished = Generator[tuple[Any, dict[str, float]], None, None]  # a run and its scores
Work = Callable[[str | Corpus, Path, Any], dict[str, float]]  # with corpus, ledger and run: files what it makes of them
NEVER = Event()  # nobody sets it
# What loky takes for a leak: checks of long utterances hold large arrays for a while. A restart costs nothing.
warnings.filterwarnings("ignore", "A worker was restarted", UserWarning, "loky")
_open_once = lru_cache(maxsize=1)(open_store)  # each worker process keeps its corpus open


def train_and_file(store: str | Corpus, ledger: Path, run: Run) -> dict[str, float]:
    """Train one run; returns its scores."""
    corpus = opened(store, run)
    return Ledger(ledger).write(run, corpus, train(corpus, run.variant, run.fold, run.seed, run.protocol)).scores


def in_processes(
    corpus: Corpus, ledger: Ledger, runs: Sequence[Any], executor=None, stop: Event = NEVER, work: Work = train_and_file
) -> Finished:
    """Train and file runs with an executor; by default in processes of our own, one per core with one thread each.

    `work` may do something else with them, or with what has a variant, too. When `stop` is set no more runs are begun,
    and those in flight in our own processes are given up at once.
    """
    longest_first = sorted(runs, key=lambda run: effort(run.variant, corpus.sizes), reverse=True)  # all cores stay busy
    own = executor is None
    if own:  # not loky's shared ones: to stop this training must not end another one
        workers = min(cpu_count(), len(runs))
        kept = KEEP_MEMORY if work is train_and_file else {}  # other work has large arrays now and then
        executor = ProcessPoolExecutor(workers, initializer=_start_worker, env=kept)
    where = corpus if corpus.view else str(corpus.path)
    futures = {executor.submit(work, where, ledger.folder, run): run for run in longest_first}
    try:
        while futures and not stop.is_set():
            for future in [f for f in futures if f.done()]:
                yield futures.pop(future), future.result()
            time.sleep(0.05)
    finally:
        if own:
            executor.shutdown(wait=True, kill_workers=bool(futures))
        else:
            for future in futures:
                future.cancel()


def in_stacks(corpus: Corpus, ledger: Ledger, runs: Sequence[Run], device: str, stop: Event = NEVER) -> Finished:
    """Train and file all runs of a variant at once on one device; a stack that does not fit into it is halved.

    When `stop` is set, it ends as soon as the next run of the stack is done.
    """
    fits = len(runs)
    for variant in dict.fromkeys(run.variant for run in runs):
        waiting = {(run.fold, run.seed): run for run in runs if run.variant == variant}
        while waiting:
            stack = list(waiting)[:fits]
            try:
                for place, trained in train_stack(corpus, variant, stack, waiting[stack[0]].protocol, device):
                    run = waiting.pop(place)
                    yield run, ledger.write(run, corpus, trained).scores
                    if stop.is_set():
                        return
            except torch.cuda.OutOfMemoryError:
                left = sum(place in waiting for place in stack)
                if left == 1:
                    raise
                fits = -(-left // 2)  # from now on


def effort(variant: Variant, sizes: Sizes) -> int:
    """How long a run takes beside those of other variants, roughly: the queries and keys of all its attention blocks.

    At IEMOCAP's sizes this ranks the 14 variants as seconds do (Spearman's correlation 0.97, corrected ones 0.93).
    """
    slots = variant.time_slots(sizes)
    return sum(slots[block[0]] + slots[block[-1]] for block in variant.blocks)


def _start_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # an interrupt is the notebook's affair; it ends its workers itself
    torch.set_num_threads(1)


def opened(store: str | Corpus, run: Run) -> Corpus:
    """The corpus of a run, kept open in this process; a view comes as itself."""
    corpus = _open_once(store) if isinstance(store, str) else store
    if corpus.fingerprint != run.corpus:
        raise RuntimeError(f"{store} has changed since the study was opened")
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
    return (_NotebookBar if notebook else tqdm)(total=total, unit="run", disable=disable, ncols=100, smoothing=0)
