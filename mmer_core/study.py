"""The study: corpus, variants, folds, seeds and protocol declared before the runs; it trains what is missing."""

from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError

from mmer_core.corpus import Corpus
from mmer_core.declaration import Declaration, read
from mmer_core.errors import MmerError
from mmer_core.ledger import Ledger, Run
from mmer_core.model import FusionModel
from mmer_core.paths import root
from mmer_core.protocol import Protocol
from mmer_core.running import NEVER, check_device, in_processes, in_stacks, progress_bar, trained
from mmer_core.variant import CHOICES, Variant
from mmer_core.watching import Watch, Watched


def open_study(path: str | Path | None = None, **changes: object) -> "Study":
    """Open the study that a file declares (see data/study.toml for what can be said there).

    Args:
        path: the file; $MMER_STUDY by default, or else data/study.toml. Paths in it are relative to its folder.
        changes: settings that replace those of the file for this once, such as seeds=range(1, 3).

    MmerError names a wrong setting, and the file if that is to blame; CorpusError if the corpus cannot be opened.
    """
    corpus = changes.get("corpus")
    if isinstance(corpus, Corpus):
        return Study.from_declaration(corpus, read(path, **{**changes, "corpus": corpus.path}))
    declaration = read(path, **changes)
    return Study.from_declaration(declaration.open_corpus(), declaration)


class Study(Watched):
    """A cross-validation: every variant on every fold with every seed. What the runs gave is told by its `Reader`.

    Args:
        variants: of any number, `Variant` or names ("self_tva").
        seeds, folds: whole numbers; by default the paper's ten seeds and all folds of the corpus.
        protocol: how runs are trained; the paper's by default.
        ledger: folder of the records; data/runs/<corpus> by default. Studies may share one.
        primary_metric, margin: what verdicts are about, and the smallest difference (in [0, 1]) that matters.
        comparisons: pairs of variants to compare; by default self- and cross-attention where nothing else differs.

    MmerError for unknown variants, folds or metrics, or none at all.
    """

    def __init__(
        self,
        corpus: Corpus,
        variants: Iterable[Variant | str],
        seeds: Iterable[int] = range(1, 11),
        folds: Iterable[int] | None = None,
        protocol: Protocol | None = None,
        ledger: str | Path | None = None,
        primary_metric: str = "accuracy",
        margin: float | None = None,
        comparisons: Iterable[tuple[str, str]] | None = None,
    ):
        ledger = ledger or root() / "data" / "runs" / corpus.name
        runs = dict(variants=variants, seeds=seeds, folds=folds, protocol=protocol or Protocol())
        verdicts = dict(primary_metric=primary_metric, margin=margin, comparisons=comparisons)
        super().__init__(corpus, Declaration().changed(corpus=corpus.path, ledger=ledger, **runs, **verdicts))

    def select(self, *patterns: str) -> "Study":
        """The same study with only those variants whose names match a pattern, such as "cross_*"."""
        return self.with_variants(self.matching(patterns))

    def with_variants(self, variants: Iterable[Variant | str]) -> "Study":
        """The same study with other variants; all else that was declared stays, comparisons too."""
        return Study.from_declaration(self.corpus, self.declaration.changed(variants=variants), self.ledger)

    def run(
        self,
        executor=None,
        progress: bool = True,
        device: str | None = None,
        attention: str | Iterable[str] | None = None,
        stop: Event = NEVER,
        retry: bool = False,
    ) -> "Study":
        """Train what is missing, and return the study.

        Each run is filed as soon as it is done: an interruption, or setting `stop` in another thread, costs the runs in
        flight and no other. A run that fails is noted with its error, and the others go on: see `failed`. MmerError if
        both an executor and a device are given, or there is no such device.

        Args:
            executor: anything with .submit(function, *arguments) -> future, whose workers see the store; by default one
                process per core with one thread each. What they train travels back, and is filed here.
            progress: show runs done, the last scores and the time left.
            device: train in this process, all missing runs of a variant at once: "cuda" for a GPU. (Tested on the CPU,
                where it equals single runs in float64; on a GPU it was not run yet.)
            attention: only variants with one of these kinds of it, such as ("self", "uniform"); MmerError if unknown.
            retry: train those that have failed, too.
        """
        if executor is not None and device is not None:
            raise MmerError("runs are trained by an executor or a device; got both")
        kinds = [attention] if isinstance(attention, str) else list(attention or ())
        if unknown := set(kinds) - set(CHOICES["attention"]):
            raise MmerError(f"attention is one or some of {', '.join(CHOICES['attention'])}; got {sorted(unknown)}")
        check_device(device)
        decisions = {name: getattr(self.declaration, name) for name in ("primary_metric", "margin", "comparisons")}
        self.ledger.declare(self.corpus.fingerprint, **decisions)
        wanted = [run for run in self.missing() if attention is None or run.variant.attention in kinds]
        wanted = [run for run in wanted if retry or not self.ledger.failure(run)]
        if not wanted:
            return self
        watch, log, end = Watch(self, wanted), self.ledger.log, "study stopped"
        log.say("study started", runs=len(wanted))
        if device is None:
            finished = in_processes(self.corpus, wanted, executor, stop, log=log)
        else:
            finished = in_stacks(self.corpus, wanted, device, stop, log)
        try:
            with closing(finished), progress_bar(len(wanted), disable=not progress) as bar:
                for run, outcome in finished:
                    if run is not None:
                        self._file(run, outcome)
                    if any(event["event"] != "run started" for event in watch.news()):
                        bar.set_postfix_str(watch.last, refresh=watch.done == bar.n)
                        bar.update(watch.done - bar.n)
            end = "study stopped" if stop.is_set() else "study ended"
        finally:
            log.say(end)
        return self

    def _file(self, run: Run, outcome: Any) -> None:
        """File what came of a run, and say so in the log. MmerError if there is no room for it."""
        about = {"run": str(run), "key": run.key}
        if isinstance(outcome, Exception):
            self.ledger.fail(run, outcome)
            self.ledger.log.say("run failed", **about, told=f"failed, {outcome}")
            return
        try:
            score = self.ledger.write(run, self.corpus, outcome).scores[self.primary_metric]
        except (OSError, SafetensorError) as error:
            where = f"{run} is trained, and cannot be filed in {self.ledger.folder}: {error}"
            raise MmerError(f"{where}; what is filed stays, and another `run` trains the rest") from error
        told = f"{self.primary_metric} {score:.3f}"
        self.ledger.log.say("run filed", **about, told=told, seconds=round(outcome.seconds, 1))

    def rerun(self, run: Run) -> list[str]:
        """Train a run again, in this process, and say what differs from its record: nothing, where all bits agree.

        Elsewhere than on the same type of processor and build of torch some bits differ; the record stays as it is,
        but for weights that were pruned: they are put back if they are what they were.
        """
        record, again = self.ledger.read(run), trained(self.corpus, run, resume=False)
        before, told = again.weights if record.pruned else record.weights(), []
        for part in ("dev", "test"):
            off = np.abs(record.predictions(part)["logits"] - again.logits[part]).max()
            told += [f"logits of the {part} part by up to {off:.3g}"] if off else []
        off = max(float(np.abs(before[name] - w).max()) for name, w in again.weights.items())
        told += [f"weights by up to {off:.3g}"] if off else []
        told += ["learning curve"] if record.curve != again.curve else []
        noted = record.summary["provenance"]
        changed = [f"{k} {noted.get(k, 'unknown')} then, {v} now" for k, v in again.made.items() if noted.get(k) != v]
        if record.pruned and not told and not self.ledger.restore(run, again.weights):
            told = ["weights, though logits and learning curve are the same"]
        return told + (changed if told else [])

    def model(self, variant: str, fold: int, seed: int) -> FusionModel:
        """The trained network of one run, in evaluation mode."""
        self.record(variant, fold, seed)  # MmerError or CorpusError if there is none
        return network(
            self.corpus, Run(self.corpus.fingerprint, self.variants[variant], fold, seed, self.protocol), self.ledger
        )


def network(corpus: Corpus, run: Run, ledger: Ledger) -> FusionModel:
    """The network of a run that the ledger holds, in evaluation mode."""
    model = FusionModel(run.variant, corpus.sizes, dtype=getattr(torch, run.protocol.precision))
    model.load_state_dict({k: torch.from_numpy(w) for k, w in ledger.read(run).weights().items()})
    return model.eval()
