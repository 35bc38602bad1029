"""The study: corpus, variants, folds, seeds and protocol declared before the runs; it trains what is missing."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import closing
from dataclasses import asdict
from fnmatch import fnmatchcase
from pathlib import Path

import torch

from mmer_core.corpus import Corpus
from mmer_core.declaration import Declaration, pairs_of_variants, read
from mmer_core.errors import MmerError
from mmer_core.ledger import Ledger, Noted
from mmer_core.model import FusionModel
from mmer_core.paths import root
from mmer_core.protocol import Protocol
from mmer_core.reading import Reader
from mmer_core.running import in_processes, in_stacks, progress_bar
from mmer_core.stats import Comparison, compare
from mmer_core.variant import Variant


def open_study(path: str | Path | None = None, **changes: object) -> Study:
    """Open the study that a file declares (see data/study.toml for what can be said there).

    Args:
        path: the file; $MMER_STUDY by default, or else data/study.toml. Paths in it are relative to its folder.
        changes: settings that replace those of the file for this once, such as seeds=range(1, 3).

    Raises:
        MmerError: naming the setting, and the file if that is to blame, for an unknown one or a wrong type or value.
        CorpusError: if the corpus cannot be opened.
    """
    corpus = changes.get("corpus")
    if isinstance(corpus, Corpus):
        return Study.declared(read(path, **{**changes, "corpus": corpus.path}), corpus)
    declaration = read(path, **changes)
    return Study.declared(declaration, declaration.open_corpus())


class Study(Reader):
    """A cross-validation: every variant on every fold with every seed. Its `Reader` tells what the runs have given.

    Args:
        corpus: an open corpus.
        variants: of any number, `Variant` or names ("self_tva").
        seeds: whole numbers; the paper has ten.
        folds: of the corpus; all by default.
        protocol: how runs are trained; the paper's by default.
        ledger: folder of the records; data/runs/<corpus> by default. Studies may share one.
        primary_metric, margin: what verdicts are about, and the smallest difference (in [0, 1]) that matters.
        comparisons: pairs of variants that verdicts are to be about; by default self- against cross-attention with
            statistical pooling, wherever nothing else differs.

    Raises:
        MmerError: for unknown variants, folds or metrics, or none at all.
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
        declaration = Declaration().changed(
            corpus=corpus.path,
            variants=variants,
            seeds=seeds,
            folds=folds,
            protocol=protocol or Protocol(),
            ledger=ledger or root() / "data" / "runs" / corpus.name,
            primary_metric=primary_metric,
            margin=margin,
            comparisons=comparisons,
        )
        super().__init__(corpus, declaration, Ledger(declaration.ledger_folder(corpus.name)))

    @classmethod
    def declared(cls, declaration: Declaration, corpus: Corpus, ledger: Ledger | None = None) -> Study:
        """The study of a declaration whose corpus is open, with a ledger that may be open already."""
        study = cls.__new__(cls)
        Reader.__init__(study, corpus, declaration, ledger or Ledger(declaration.ledger_folder(corpus.name)))
        return study

    def __repr__(self) -> str:
        changed = {k: v for k, v in asdict(self.protocol).items() if v != getattr(Protocol, k)}
        protocol = "".join(f", {k} = {v} (paper: {getattr(Protocol, k)})" for k, v in changed.items())
        what = f"{len(self.variants)} variants on the {self.corpus.title}{protocol}"
        return f"<study of {what}: {len(self.runs) - len(self.missing())} of {len(self.runs)} runs done>"

    def select(self, *patterns: str) -> Study:
        """The same study with only those variants whose names match a pattern, such as "cross_*"."""
        names = [name for name in self.variants if any(fnmatchcase(name, p) for p in patterns)]
        if not names:
            raise MmerError(f"no variant of this study matches {patterns}; it has {', '.join(self.variants)}")
        return self.with_variants(names)

    def with_variants(self, variants: Iterable[Variant | str]) -> Study:
        """The same study with other variants; all else that was declared stays, comparisons too."""
        return Study.declared(self.declaration.changed(variants=variants), self.corpus, self.ledger)

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
            MmerError: if both an executor and a device are given.
            FloatingPointError: if a loss is not finite.
        """
        if executor is not None and device is not None:
            raise MmerError("runs are trained by an executor or a device; got both")
        noted = Noted(self.primary_metric, self.margin, self.declaration.comparisons)
        self.ledger.declare(self.corpus.fingerprint, noted)
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

    def model(self, variant: str, fold: int, seed: int) -> FusionModel:
        """The trained network of one run, in evaluation mode."""
        weights = self.record(variant, fold, seed).weights()
        model = FusionModel(self.variants[variant], self.corpus.sizes, dtype=getattr(torch, self.protocol.precision))
        model.load_state_dict({k: torch.from_numpy(w) for k, w in weights.items()})
        return model.eval()

    def exploratory(self, metric: str | None = None, pair: tuple[str, str] | None = None) -> str:
        """Why a verdict by this metric (the study's by default), on this pair, was not declared before the first run.

        Empty if it was: then metric, margin and pair are among what the ledger noted at that time.
        """
        noted = self.ledger.declared(self.corpus.fingerprint)
        return self.declaration.exploratory(noted, metric or self.primary_metric, pair)

    def comparisons(
        self, pairs: Iterable[tuple[str, str]] | None = None, metric: str | None = None
    ) -> list[Comparison]:
        """Verdicts on the declared pairs, or on others, as far as both variants have been trained.

        Each one says by itself why it is exploratory, if its pair, metric or margin was not declared before the runs.

        Args:
            pairs: (first, second), names of variants; the difference is second minus first.
            metric: the study's primary metric by default.

        Raises:
            MmerError: if the study declares no margin.
        """
        if self.margin is None:
            raise MmerError("a verdict needs a margin: declare it in the study before the runs")
        wanted = self.declaration.pairs if pairs is None else pairs_of_variants("pairs", pairs)
        results, metric = self.results(), metric or self.primary_metric
        trained = set(results["variant"])
        return [
            compare(results, *pair, metric, rope=self.margin, exploratory=self.exploratory(metric, pair))
            for pair in wanted
            if set(pair) <= trained
        ]

    def main_comparison(self) -> Comparison:
        """What deserves the closest look: the last declared comparison that is trained, or else any, exploratory.

        Raises:
            MmerError: if fewer than two variants are trained, or the study declares no margin.
        """
        results = self.results()
        trained = [name for name in self.variants if name in set(results["variant"])]
        if len(trained) < 2:
            raise MmerError(f"a comparison needs two trained variants; trained so far: {', '.join(trained) or 'none'}")
        declared = [pair for pair in self.declaration.pairs if set(pair) <= set(trained)]
        (comparison,) = self.comparisons(declared[-1:] or [(trained[0], trained[1])])
        return comparison
