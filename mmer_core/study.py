"""The study: corpus, variants, folds, seeds and protocol declared before the runs; it knows which runs are missing."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import closing
from dataclasses import asdict
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from mmer_core.corpus import Corpus
from mmer_core.ledger import Ledger, Record, Run
from mmer_core.metrics import METRICS
from mmer_core.model import FusionModel
from mmer_core.paths import root
from mmer_core.protocol import Protocol
from mmer_core.running import in_processes, in_stacks, progress_bar
from mmer_core.variant import Variant


class Study:
    """A cross-validation: every variant on every fold with every seed.

    Args:
        corpus: an open corpus.
        variants: of any number, `Variant` or names ("self_tva").
        seeds: whole numbers; the paper has ten.
        folds: of the corpus; all by default.
        protocol: how runs are trained; the paper's by default.
        ledger: folder of the records; data/runs/<corpus> by default. Studies may share one.
        primary_metric, margin: what verdicts are about, and the smallest difference (in [0, 1]) that matters.

    Raises:
        ValueError: for unknown variants, folds or metrics, or none at all.
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
    ):
        self.corpus = corpus
        chosen = [v if isinstance(v, Variant) else Variant.from_name(v) for v in variants]
        self.variants = {v.name: v for v in chosen}
        self.seeds = list(dict.fromkeys(seeds))
        self.folds = list(corpus.folds) if folds is None else list(dict.fromkeys(folds))
        self.protocol = protocol or Protocol()
        self.ledger = Ledger(ledger or root() / "data" / "runs" / corpus.name)
        self.primary_metric, self.margin = primary_metric, margin
        for what in ("variants", "seeds", "folds"):
            if not getattr(self, what):
                raise ValueError(f"a study needs {what}")
        if not all(type(s) is int and s >= 0 for s in self.seeds):
            raise ValueError(f"seeds are whole numbers from 0 on; got {self.seeds}")
        if unknown := set(self.folds) - set(corpus.folds):
            raise ValueError(f"{corpus!r} has the folds {list(corpus.folds)}; got {sorted(unknown, key=str)}")
        if primary_metric not in METRICS:
            raise ValueError(f"primary_metric is one of {', '.join(METRICS)}; got {primary_metric!r}")
        if margin is not None and not (isinstance(margin, (int, float)) and 0 < margin < 1):
            raise ValueError(f"margin is a difference of scores between 0 and 1, such as 0.02; got {margin!r}")

    def __repr__(self) -> str:
        changed = {k: v for k, v in asdict(self.protocol).items() if v != getattr(Protocol, k)}
        protocol = "".join(f", {k} = {v} (paper: {getattr(Protocol, k)})" for k, v in changed.items())
        what = f"{len(self.variants)} variants on the {self.corpus.title}{protocol}"
        return f"<study of {what}: {len(self.runs) - len(self.missing())} of {len(self.runs)} runs done>"

    def select(self, *patterns: str) -> Study:
        """The same study with only those variants whose names match a pattern, such as "cross_*"."""
        names = [name for name in self.variants if any(fnmatchcase(name, p) for p in patterns)]
        if not names:
            raise ValueError(f"no variant of this study matches {patterns}; it has {', '.join(self.variants)}")
        return self.with_variants(names)

    def with_variants(self, variants: Iterable[Variant | str]) -> Study:
        """The same study with other variants: same corpus, seeds, folds, protocol, ledger, metric and margin."""
        return Study(
            self.corpus,
            variants,
            self.seeds,
            self.folds,
            self.protocol,
            self.ledger.folder,
            self.primary_metric,
            self.margin,
        )

    @property
    def runs(self) -> list[Run]:
        """All runs that make this study."""
        return [
            Run(self.corpus.fingerprint, v, fold, seed, self.protocol)
            for v in self.variants.values()
            for seed in self.seeds
            for fold in self.folds
        ]

    def missing(self) -> list[Run]:
        """The runs that the ledger lacks."""
        return [run for run in self.runs if not self.ledger.has(run)]

    # ------------------------------------------------------------------------------------------------- training

    def run(self, executor=None, progress: bool = True, device: str | None = None) -> Study:
        """Train what is missing, and return the study.

        Each run is filed as soon as it is done: an interruption costs the runs in flight and no other.

        Args:
            executor: anything with .submit(function, *arguments) -> future; by default one process per core with one
                thread each. Workers must see the folders of the store and the ledger.
            progress: show runs done, the last scores and the time left.
            device: train in this process instead, all missing runs of a variant at once: "cuda" for a GPU. (Tested on
                the CPU, where it equals single runs in float64; on a GPU it was not measured yet.)

        Raises:
            ValueError: if both an executor and a device are given.
            FloatingPointError: if a loss is not finite.
        """
        if executor is not None and device is not None:
            raise ValueError("runs are trained by an executor or a device; got both")
        self.ledger.declare(self.corpus.fingerprint, self.primary_metric, self.margin)
        missing = self.missing()
        if not missing:
            return self
        if device is None:
            finished = in_processes(self.corpus, self.ledger, missing, executor)
        else:
            finished = in_stacks(self.corpus, self.ledger, missing, device)
        with closing(finished), progress_bar(len(missing), disable=not progress) as bar:
            for run, scores in finished:
                bar.set_postfix_str(f"{run}: {self.primary_metric} {scores[self.primary_metric]:.3f}", refresh=False)
                bar.update()
        return self

    # -------------------------------------------------------------------------------------------------- results

    def record(self, variant: str, fold: int, seed: int) -> Record:
        """One record; ValueError if it is no run of this study, CorpusError if it is not trained yet."""
        for run in self.runs:
            if (run.variant.name, run.fold, run.seed) == (variant, fold, seed):
                return self.ledger.read(run)
        raise ValueError(f"{variant} fold {fold} seed {seed} is no run of this study")

    def model(self, variant: str, fold: int, seed: int) -> FusionModel:
        """The trained network of one run, in evaluation mode."""
        weights = self.record(variant, fold, seed).weights()
        model = FusionModel(self.variants[variant], self.corpus.sizes, dtype=getattr(torch, self.protocol.precision))
        model.load_state_dict({k: torch.from_numpy(w) for k, w in weights.items()})
        return model.eval()

    def _records(self) -> list[tuple[Run, Record]]:
        return [(run, self.ledger.read(run)) for run in self.runs if self.ledger.has(run)]

    def results(self) -> pd.DataFrame:
        """One row a finished run: variant, fold, seed, test scores in [0, 1], counts, parameters, epochs, seconds."""
        columns = ["variant", "modalities", "attention", "pooling", "fold", "seed", *METRICS]
        columns += ["dev_accuracy", "n_train", "n_dev", "n_test", "parameters", "best_epoch", "epochs", "seconds"]
        rows = []
        for run, record in self._records():
            s, v = record.summary, run.variant
            rows.append(
                dict(variant=v.name, modalities=v.modalities, attention=v.attention, pooling=v.pooling)
                | dict(fold=run.fold, seed=run.seed, **record.scores, dev_accuracy=s["dev_accuracy"])
                | {f"n_{part}": n for part, n in s["counts"].items()}
                | dict(parameters=s["parameters"], best_epoch=s["best_epoch"], epochs=len(record.curve))
                | dict(seconds=s["seconds"])
            )
        return pd.DataFrame(rows, columns=columns)

    def recalls(self) -> pd.DataFrame:
        """One row a finished run and class: variant, fold, seed, class, recall (NaN if nobody is), n_train, n_test."""
        rows = []
        for run, record in self._records():
            known = dict(variant=run.variant.name, fold=run.fold, seed=run.seed)
            counts = {f"n_{part}": record.summary["counts"][part] for part in ("train", "test")}
            for k, name in enumerate(self.corpus.classes):
                right, n = record.confusion[k, k], record.confusion[k].sum()
                rows.append({**known, "class": name, "recall": right / n if n else float("nan"), **counts})
        return pd.DataFrame(rows, columns=["variant", "fold", "seed", "class", "recall", "n_train", "n_test"])

    def predictions(self, variant: str) -> dict[tuple[int, int], dict[str, np.ndarray]]:
        """Test predictions of one variant by (fold, seed): ids [N], label [N], logits [N, C]."""
        return {
            (run.fold, run.seed): record.predictions("test")
            for run, record in self._records()
            if run.variant.name == variant
        }

    def exploratory(self, metric: str | None = None) -> str:
        """Why a verdict by this metric (the study's by default) and margin was not declared before the first run.

        Empty if it was: then the study's metric and margin are those that the ledger noted then.
        """
        noted, metric = self.ledger.declared(self.corpus.fingerprint), metric or self.primary_metric
        if not noted:
            return "the ledger does not say what was declared before the runs"
        if metric != noted["primary_metric"]:
            return f"{metric} is secondary: {noted['primary_metric']} was declared before the runs"
        if self.margin != noted["margin"]:
            return f"the margin was {noted['margin']} when the runs began"
        return ""

    def learning_curves(self) -> pd.DataFrame:
        """One row an epoch: variant, fold, seed, epoch, train_loss, dev_loss, dev_accuracy, learning_rate."""
        columns = ["variant", "fold", "seed", "epoch", "train_loss", "dev_loss", "dev_accuracy", "learning_rate"]
        rows = [
            dict(variant=run.variant.name, fold=run.fold, seed=run.seed) | point
            for run, record in self._records()
            for point in record.curve
        ]
        return pd.DataFrame(rows, columns=columns)

    def confusion(self, variant: str) -> np.ndarray:
        """Confusion matrix [C, C] of one variant, summed over its finished runs (rows are labels)."""
        found = [record.confusion for run, record in self._records() if run.variant.name == variant]
        return np.sum(found, axis=0) if found else np.zeros((len(self.corpus.classes),) * 2, int)

    def status(self) -> pd.DataFrame:
        """One row a variant: runs done and wanted, mean scores so far, hours spent."""
        frame = self.results()
        rows = []
        for name in self.variants:
            mine = frame[frame["variant"] == name]
            rows.append(
                {"variant": name, "done": len(mine), "runs": len(self.folds) * len(self.seeds)}
                | {m: mine[m].mean() for m in ("accuracy", "balanced_accuracy")}
                | {"hours": mine["seconds"].sum() / 3600}
            )
        return pd.DataFrame(rows)
