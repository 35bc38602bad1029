"""What is slow is computed once: in the study's workers, a run each, and kept beside the ledger.

<ledger>/.checks/<what>/<variant>/fold<k>_seed<s>_<key>.csv
"""

import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from mmer_core.corpus import Corpus
from mmer_core.errors import MmerError
from mmer_core.explain import across, causal
from mmer_core.explain.reliance import reliance
from mmer_core.explain.truth import truth
from mmer_core.ledger import Ledger, Run
from mmer_core.model import FusionModel
from mmer_core.running import in_processes, opened, progress_bar
from mmer_core.study import Study, network
from mmer_core.training import one_thread, train

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
    "deletions": (network, causal.deletions),
    "input deletions": (network, causal.input_deletions),
    "randomised": (network, causal.randomised),
    "reliance": (network, reliance),
    "truth": (network, truth),
    "truth, untrained": (_untrained, truth),
    "truth, shuffled labels": (_misled, truth),
}
CONTROLS = ("truth, untrained", "truth, shuffled labels")


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
    if what not in CHECKS:
        raise MmerError(f"checks are {', '.join(CHECKS)}; got {what!r}")
    names, wanted = list(variants or study.variants), list(seeds or study.seeds)
    if unknown := set(names) - set(study.variants):
        raise MmerError(f"{study!r} has no {', '.join(sorted(unknown))}")
    runs = [
        Run(study.corpus.fingerprint, study.variants[name], fold, seed, study.protocol)
        for name in names
        for fold in study.folds
        for seed in wanted
    ]
    runs = [run for run in runs if what in CONTROLS or study.ledger.has(run)]
    if not runs:
        raise MmerError(f"none of {', '.join(names)} has been trained")
    compute(study, what, runs, progress, executor)
    parts = [
        pd.read_csv(file(study.ledger.folder, what, run), keep_default_na=False, na_values=[""]).assign(
            variant=run.variant.name, fold=run.fold, seed=run.seed
        )
        for run in runs
    ]
    table = pd.concat(parts, ignore_index=True)
    return table[["variant", "fold", "seed", *table.columns.drop(["variant", "fold", "seed"])]]


def compute(study: Study, what: str, runs: Sequence[Run], progress: bool = True, executor=None) -> None:
    """Compute and file a check of runs where it is not filed yet."""
    missing = [run for run in runs if not file(study.ledger.folder, what, run).is_file()]
    if not missing:
        return
    work = in_processes(study.corpus, study.ledger, missing, executor, work=partial(_work, what))
    with closing(work) as done, progress_bar(len(missing), disable=not progress) as bar:
        for run, _ in done:
            bar.set_postfix_str(f"{what}: {run}", refresh=False)
            bar.update()


def file(ledger: Path, what: str, run: Run) -> Path:
    return ledger / ".checks" / f"{what.replace(', ', '_').replace(' ', '_')}-{VERSION}" / f"{run.folder}.csv"


def _work(what: str, store: str, ledger: Path, run: Run) -> dict[str, float]:
    corpus, place, (make, check) = opened(store, run), file(ledger, what, run), CHECKS[what]
    with one_thread():
        frame = check(make(corpus, run, Ledger(ledger)), corpus, run.fold)
    place.parent.mkdir(parents=True, exist_ok=True)
    scratch = place.with_suffix(f".{os.getpid()}")
    frame.to_csv(scratch, index=False)
    os.replace(scratch, place)
    return {}
