"""What is slow is computed once: in the study's workers, a run each, and kept beside the ledger.

<ledger>/.checks/<what>/<variant>/fold<k>_seed<s>_<key>.csv
"""

import itertools
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch

from mmer_core.corpus import Corpus
from mmer_core.errors import CorpusError, MmerError
from mmer_core.explain import across, causal, decision
from mmer_core.explain.reliance import reliance
from mmer_core.explain.truth import truth
from mmer_core.ledger import Ledger, Run
from mmer_core.model import FusionModel
from mmer_core.paths import write_whole
from mmer_core.running import in_processes, opened, progress_bar
from mmer_core.study import Study, network
from mmer_core.training import one_thread, train
from mmer_core.variant import Variant

VERSION = 1  # counts changes of what a check computes


def _untrained(corpus: Corpus, run: Run, ledger: Ledger) -> FusionModel:
    """The network as it is before its training."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(run.seed)
        return FusionModel(run.variant, corpus.sizes, dtype=getattr(torch, run.protocol.precision)).eval()


def _misled(corpus: Corpus, run: Run, ledger: Ledger) -> FusionModel:
    """The network, trained on labels that are dealt out anew."""
    shuffled = replace(corpus, label=np.random.default_rng(run.seed).permutation(corpus.label))
    model = _untrained(corpus, run, ledger)
    model.load_state_dict(train(shuffled, run.variant, run.fold, run.seed, run.protocol).weights)
    return model


CHECKS: dict[str, tuple[Callable, Callable[..., pd.DataFrame]]] = {  # which network, and what is asked of it
    "attended": (network, across.attended),
    "words": (network, across.words),
    "blocks": (network, decision.blocks),
    "deletions": (network, causal.deletions),
    "input deletions": (network, causal.input_deletions),
    "randomised": (network, causal.randomised),
    "reliance": (network, reliance),
    "truth": (network, truth),
    "truth, untrained": (_untrained, truth),
    "truth, shuffled labels": (_misled, truth),
}
CONTROLS = ("truth, untrained", "truth, shuffled labels")


class Task(NamedTuple):
    """A check of a run."""

    what: str
    run: Run

    @property
    def variant(self) -> Variant:
        return self.run.variant

    def file(self, ledger: Path) -> Path:
        what = self.what.replace(", ", "_").replace(" ", "_")
        return ledger / ".checks" / f"{what}-{VERSION}" / f"{self.run.folder}.csv"


def checked(
    study: Study,
    what: str,
    variants: Iterable[str] | None = None,
    seeds: Iterable[int] | None = None,
    progress: bool = True,
    executor=None,
) -> pd.DataFrame:
    """One of `CHECKS` of a study's runs: the rows of each, after variant, fold and seed; what is filed is only read.

    Args:
        variants, seeds: of which runs; by default all. Controls need no finished runs, and may have any seeds.
        progress, executor: as of `Study.run`.

    MmerError for an unknown check or variant, or where none of these runs is trained.
    """
    tasks = tasks_of(study, what, variants, seeds)
    compute(study, tasks, progress, executor)
    return read(study, tasks)


def tasks_of(
    study: Study, what: str, variants: Iterable[str] | None = None, seeds: Iterable[int] | None = None
) -> list[Task]:
    """A check of all runs that it can be made of; MmerError as of `checked`."""
    if what not in CHECKS:
        raise MmerError(f"checks are {', '.join(CHECKS)}; got {what!r}")
    names, wanted = list(variants or study.variants), list(seeds or study.seeds)
    if unknown := set(names) - set(study.variants):
        raise MmerError(f"{study!r} has no {', '.join(sorted(unknown))}")
    places = itertools.product([study.variants[name] for name in names], study.folds, wanted)
    runs = [Run(study.corpus.fingerprint, variant, fold, seed, study.protocol) for variant, fold, seed in places]
    tasks = [Task(what, run) for run in runs if what in CONTROLS or study.ledger.has(run)]
    if not tasks:
        raise MmerError(f"none of {', '.join(names)} has been trained")
    return tasks


def missing(study: Study, tasks: Sequence[Task]) -> list[Task]:
    """What is not filed yet."""
    return [task for task in tasks if not task.file(study.ledger.folder).is_file()]


def compute(study: Study, tasks: Sequence[Task], progress: bool = True, executor=None) -> None:
    """Compute what is not filed yet, in the study's workers."""
    if not (todo := missing(study, tasks)):
        return
    work = in_processes(study.corpus, todo, executor, work=partial(_work, study.ledger.folder))
    with closing(work) as done, progress_bar(len(todo), disable=not progress) as bar:
        for task, outcome in done:
            if isinstance(outcome, Exception):
                raise outcome
            bar.set_postfix_str(f"{task.what}: {task.run}", refresh=False)
            bar.update()


def read(study: Study, tasks: Sequence[Task]) -> pd.DataFrame:
    """What is filed; MmerError where something is not, or cannot be read."""
    parts = []
    for task in tasks:
        place = task.file(study.ledger.folder)
        try:
            frame = pd.read_csv(place, keep_default_na=False, na_values=[""])
        except FileNotFoundError:
            raise MmerError(f"{task.what} of {task.run} is not computed yet: notebook 04 does it") from None
        except (OSError, ValueError) as error:
            raise CorpusError(place, "the rows of a check", f"{error}; delete it to compute it again") from None
        parts.append(frame.assign(variant=task.run.variant.name, fold=task.run.fold, seed=task.run.seed))
    table = pd.concat(parts, ignore_index=True)
    return table[["variant", "fold", "seed", *table.columns.drop(["variant", "fold", "seed"])]]


def _work(ledger: Path, store: str | Corpus, task: Task) -> None:
    corpus, place, (make, check) = opened(store, task.run), task.file(ledger), CHECKS[task.what]
    with one_thread():
        frame = check(make(corpus, task.run, Ledger(ledger)), corpus, task.run.fold)
    place.parent.mkdir(parents=True, exist_ok=True)
    write_whole(place, frame.to_csv(index=False).encode())
