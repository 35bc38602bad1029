"""What the finished runs of a study say: tidy frames, and comparisons that know whether they were declared."""

from collections.abc import Iterable
from dataclasses import asdict

import numpy as np
import pandas as pd

from mmer_core.corpus import PARTS, Corpus
from mmer_core.declaration import Declaration, Pair, default_pairs
from mmer_core.errors import MmerError
from mmer_core.ledger import Ledger, Record, Run
from mmer_core.metrics import METRICS
from mmer_core.stats import Comparison, compare
from mmer_core.variant import Variant


class Reader:
    """The runs that a declaration asks for, and what the ledger holds of them."""

    def __init__(self, corpus: Corpus, declaration: Declaration, ledger: Ledger | None = None):
        self.corpus, self.declaration = corpus, declaration
        self.ledger = ledger or Ledger(declaration.folder / (declaration.ledger or f"runs/{corpus.name}"))
        self.variants = {variant.name: variant for variant in declaration.variants}
        self.seeds, self.protocol = list(declaration.seeds), declaration.protocol
        self.folds = list(declaration.folds or corpus.folds)
        if lacking := set(self.folds) - set(corpus.folds):
            where = f"{declaration.file}: " if declaration.file else ""
            raise MmerError(f"{where}{corpus!r} has the folds {list(corpus.folds)}; got {sorted(lacking)}")
        self.primary_metric, self.margin = declaration.primary_metric, declaration.margin
        self.runs = [
            Run(corpus.fingerprint, variant, fold, seed, self.protocol)
            for variant in declaration.variants
            for seed in self.seeds
            for fold in self.folds
        ]

    def missing(self) -> list[Run]:
        """The runs that the ledger lacks."""
        return [run for run in self.runs if not self.ledger.has(run)]

    def record(self, variant: str, fold: int, seed: int) -> Record:
        """One record; MmerError if it is no run of this study, CorpusError if it is not trained yet."""
        for run in self.runs:
            if (run.variant.name, run.fold, run.seed) == (variant, fold, seed):
                return self.ledger.read(run)
        raise MmerError(f"{variant} fold {fold} seed {seed} is no run of this study")

    def _finished(self, variant: str | None = None) -> list[tuple[Run, Record]]:
        """Finished runs with their records, of one variant or of all."""
        wanted = [run for run in self.runs if variant is None or run.variant.name == variant]
        return [(run, self.ledger.read(run)) for run in wanted if self.ledger.has(run)]

    def results(self) -> pd.DataFrame:
        """One row a finished run: variant, fold, seed, test scores in [0, 1], counts, parameters, epochs, seconds."""
        columns = ["variant", "modalities", "attention", "pooling", "fold", "seed", *METRICS]
        columns += ["dev_accuracy", "n_train", "n_dev", "n_test", "parameters", "best_epoch", "epochs", "seconds"]
        return pd.DataFrame([_result(*finished) for finished in self._finished()], columns=columns)

    def publishable(self) -> pd.DataFrame:
        """One row a finished run, to give away: `results`, all settings, and where they come from.

        It holds no utterance, id, label, name of a class, or path. primary_metric and margin are those that the ledger
        noted before the first run (None: it did not); mmer_core and torch are the versions that trained the run; key
        is the run's identity.
        """
        noted, corpus = self.ledger.declared(self.corpus.fingerprint), self.corpus
        told = {"corpus": corpus.name, "synthetic": corpus.synthetic, "fingerprint": corpus.fingerprint}
        told |= {setting: noted.get(setting) for setting in ("primary_metric", "margin")}
        rows = []
        for run, record in self._finished():
            settings = asdict(run.variant) | asdict(run.protocol)
            settings["slots"] = "x".join(map(str, run.variant.slots or ())) or None
            made = {name: record.summary["provenance"].get(name) for name in ("mmer_core", "torch")}
            rows.append(_result(run, record) | settings | told | made | {"key": run.key})
        return pd.DataFrame(rows)

    def recalls(self) -> pd.DataFrame:
        """One row a finished run and class: variant, fold, seed, class, recall, n_train, n_test, n.

        n: utterances of that class in the test part; where there is none, recall is NaN.
        """
        rows = []
        for run, record in self._finished():
            known = dict(variant=run.variant.name, fold=run.fold, seed=run.seed)
            counts = {f"n_{part}": record.summary["counts"][part] for part in ("train", "test")}
            for k, name in enumerate(self.corpus.classes):
                right, n = record.confusion[k, k], record.confusion[k].sum()
                rows.append({**known, "class": name, "recall": right / n if n else float("nan"), **counts, "n": n})
        return pd.DataFrame(rows, columns=["variant", "fold", "seed", "class", "recall", "n_train", "n_test", "n"])

    def learning_curves(self) -> pd.DataFrame:
        """One row an epoch: variant, fold, seed, epoch, train_loss, dev_loss, dev_accuracy, learning_rate."""
        columns = ["variant", "fold", "seed", "epoch", "train_loss", "dev_loss", "dev_accuracy", "learning_rate"]
        rows = [
            dict(variant=run.variant.name, fold=run.fold, seed=run.seed) | epoch
            for run, record in self._finished()
            for epoch in record.curve
        ]
        return pd.DataFrame(rows, columns=columns)

    def predictions(self, variant: str) -> dict[tuple[int, int], dict[str, np.ndarray]]:
        """Test predictions of one variant by (fold, seed): ids [N], label [N], logits [N, C]."""
        return {(run.fold, run.seed): record.predictions("test") for run, record in self._finished(variant)}

    def confusion(self, variant: str) -> np.ndarray:
        """Confusion matrix [C, C] of one variant, summed over its finished runs (rows are labels)."""
        total = np.zeros((len(self.corpus.classes),) * 2, int)
        return sum((record.confusion for _, record in self._finished(variant)), total)

    def status(self) -> pd.DataFrame:
        """One row a variant: runs done and wanted, mean scores so far, hours spent."""
        results = self.results()
        rows = []
        for name in self.variants:
            mine = results[results["variant"] == name]
            row = {"variant": name, "done": len(mine), "runs": len(self.folds) * len(self.seeds)}
            row |= {metric: mine[metric].mean() for metric in ("accuracy", "balanced_accuracy", self.primary_metric)}
            rows.append(row | {"hours": mine["seconds"].sum() / 3600})
        return pd.DataFrame(rows)

    def exploratory(self, metric: str | None = None, pair: Pair | None = None) -> str:
        """Why a verdict by a metric (or the study's) on a pair was not declared before the runs; "" if it was."""
        noted, metric = self.ledger.declared(self.corpus.fingerprint), metric or self.primary_metric
        reasons = []
        if not noted:
            reasons.append("the ledger does not say what was declared before the runs")
        elif metric != noted["primary_metric"]:
            reasons.append(f"{metric} is secondary: {noted['primary_metric']} was declared before the runs")
        elif self.margin != noted["margin"]:
            reasons.append(f"the margin was {noted['margin']} when the runs began")
        declared = noted.get("comparisons") if noted else self.declaration.comparisons  # older ledgers noted none
        if declared is None:
            declared = default_pairs([Variant.from_name(name) for name in pair or ()])
        if pair and set(pair) not in map(set, declared):
            reasons.append("the comparison was picked by hand")
        return ", and ".join(reasons)

    def comparisons(self, pairs: Iterable[Pair] | None = None, metric: str | None = None) -> list[Comparison]:
        """The declared pairs (or others) compared by the study's metric (or another), where both variants are trained.

        The difference is second minus first; each one says why it is exploratory, if it is. MmerError without a margin.
        """
        if self.margin is None:
            raise MmerError("a verdict needs a margin: declare it in the study before the runs")
        wanted = self.declaration if pairs is None else self.declaration.changed(comparisons=pairs)
        results, metric = self.results(), metric or self.primary_metric
        return [
            compare(results, *pair, metric, rope=self.margin, exploratory=self.exploratory(metric, pair))
            for pair in wanted.pairs
            if set(pair) <= set(results["variant"])
        ]

    def main_comparison(self) -> Comparison:
        """What deserves the closest look: the last declared comparison that is trained, or else the first two variants.

        MmerError if fewer than two variants are trained, or the study declares no margin.
        """
        trained = [name for name in self.variants if self._finished(name)]
        if len(trained) < 2:
            raise MmerError(f"a comparison needs two trained variants; trained so far: {', '.join(trained) or 'none'}")
        declared = [pair for pair in self.declaration.pairs if set(pair) <= set(trained)]
        pair = declared[-1] if declared else (trained[0], trained[1])
        return self.comparisons([pair])[0]


def _result(run: Run, record: Record) -> dict:
    """One row of `Reader.results`."""
    variant = {name: getattr(run.variant, name) for name in ("modalities", "attention", "pooling")}
    counts = {f"n_{part}": record.summary["counts"][part] for part in PARTS}
    return (
        {"variant": run.variant.name, **variant, "fold": run.fold, "seed": run.seed}
        | {metric: record.scores[metric] for metric in METRICS}
        | {"dev_accuracy": record.summary["dev_accuracy"], **counts}
        | {name: record.summary[name] for name in ("parameters", "best_epoch")}
        | {"epochs": len(record.curve), "seconds": record.summary["seconds"]}
    )
