"""What the finished runs of a study say: tidy frames, and comparisons that know whether they were declared."""

from collections.abc import Iterable
from dataclasses import asdict, replace
from fnmatch import fnmatchcase
from itertools import product
from typing import Any

import numpy as np
import pandas as pd

from mmer_core.corpus import PARTS, Corpus
from mmer_core.declaration import FAMILIES, Declaration, Pair, added_modalities, declared_pairs
from mmer_core.errors import MmerError
from mmer_core.ledger import Ledger, Record, Run
from mmer_core.metrics import METRICS
from mmer_core.stats import Comparison, Difference, compare, on_each_split
from mmer_core.variant import Variant

COLUMNS = ["variant", "modalities", "attention", "pooling", "fold", "seed", *METRICS]  # of results
COLUMNS += ["dev_accuracy", "n_train", "n_dev", "n_test", "parameters", "best_epoch", "epochs", "seconds"]


class Reader:
    """The runs that a declaration asks for, and what the ledger holds of them."""

    def __init__(self, corpus: Corpus, declaration: Declaration, ledger: Ledger | None = None):
        self.corpus, self.declaration = corpus, declaration
        self.ledger = ledger or Ledger(declaration.folder / (declaration.ledger or f"runs/{corpus.name}"))
        self.left_out = [v.name for v in declaration.variants if not set(v.modalities) <= set(corpus.modalities)]
        self.variants = {v.name: v for v in declaration.variants if v.name not in self.left_out}
        where = f"{declaration.file}: " if declaration.file else ""
        if not self.variants:
            raise MmerError(
                f"{where}every variant needs a modality that is missing: {corpus!r} has {[*corpus.lengths]}"
            )
        if self.left_out:
            pairs = [c for c in declaration.comparisons or FAMILIES[:1] if not set(self.left_out) & {*c}]
            self.declaration = declaration.changed(variants=self.variants.values(), comparisons=pairs)
        if not corpus.folds:
            raise MmerError(f"{where}{corpus!r} names no folds; say folds_from, such as {{k = 5, by = 'speaker'}}")
        self.seeds, self.protocol = list(declaration.seeds), declaration.protocol
        self.folds = list(declaration.folds or corpus.folds)
        if lacking := set(self.folds) - set(corpus.folds):
            raise MmerError(f"{where}{corpus!r} has the folds {list(corpus.folds)}; got {sorted(lacking)}")
        self.primary_metric, self.margin = declaration.primary_metric, declaration.margin
        wanted = product(self.variants.values(), self.seeds, self.folds)
        self._tabled: tuple[list[int], pd.DataFrame] = [-1], pd.DataFrame()  # the results of which records
        self.runs = [Run(corpus.fingerprint, variant, fold, seed, self.protocol) for variant, seed, fold in wanted]

    def missing(self) -> list[Run]:
        """The runs that the ledger lacks."""
        return [run for run in self.runs if not self.ledger.has(run)]

    def failed(self) -> dict[Run, str]:
        """The missing runs that were tried and failed, with the error of each; `Study.run(retry=True)` tries again."""
        return {run: why for run in self.missing() if (why := self.ledger.failure(run))}

    def named(self, name: str) -> Run:
        """The run of that name, such as "self_tva/1/2" (variant, fold, seed), or the beginning of its key."""
        found = [r for r in self.runs if name == f"{r.variant.name}/{r.fold}/{r.seed}" or r.key.startswith(name)]
        if len(found) != 1:
            raise MmerError(f"RUN is VARIANT/FOLD/SEED, or the beginning of a key; {name!r} names {len(found)} runs")
        return found[0]

    def verify(self, set_aside: bool = False) -> dict[Run, str]:
        """Records that are not as they were written, and why: all files of all runs are read.

        set_aside: move them out of the way, so that `Study.run` trains these runs again.
        """
        damaged = {run: why for run in self.runs if (why := self.ledger.verify(run))}
        for run in damaged if set_aside else ():
            self.ledger.set_aside(run)
        return damaged

    def prune(self, *patterns: str) -> tuple[int, int]:
        """Give up the weights of finished runs of variants whose names match a pattern: how many, and bytes freed.

        `Study.rerun` puts them back. MmerError if no variant matches.
        """
        freed = [self.ledger.prune(run) for name in self.matching(patterns) for run, _ in self.finished(name)]
        return len(freed), sum(freed)

    def matching(self, patterns: Iterable[str]) -> list[str]:
        """The variants whose names match a pattern, such as "cross_*"; MmerError if there are none."""
        if found := [name for name in self.variants if any(fnmatchcase(name, p) for p in patterns)]:
            return found
        raise MmerError(f"no variant of this study matches {patterns}; it has {', '.join(self.variants)}")

    def record(self, variant: str, fold: int, seed: int) -> Record:
        """One record; MmerError if it is no run of this study, CorpusError if it is not trained yet."""
        for run in self.runs:
            if (run.variant.name, run.fold, run.seed) == (variant, fold, seed):
                return self.ledger.read(run)
        raise MmerError(f"{variant} fold {fold} seed {seed} is no run of this study")

    def finished(self, variant: str | None = None) -> list[tuple[Run, Record]]:
        """Finished runs with their records, of one variant or of all."""
        wanted = [run for run in self.runs if variant is None or run.variant.name == variant]
        return self.ledger.find_all(wanted)

    def results(self) -> pd.DataFrame:
        """One row a finished run: variant, fold, seed, test scores in [0, 1], counts, parameters, epochs, seconds."""
        finished = self.finished()
        if (held := [id(record) for _, record in finished]) != self._tabled[0]:  # the ledger keeps them
            self._tabled = held, pd.DataFrame([_result(*one) for one in finished], columns=COLUMNS)
        return self._tabled[1].copy()

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
        for run, record in self.finished():
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
        for run, record in self.finished():
            counts = {f"n_{part}": record.brief["counts"][part] for part in ("train", "test")}
            for k, name in enumerate(self.corpus.classes):
                right, n = record.confusion[k, k], record.confusion[k].sum()
                recall = {"class": name, "recall": right / n if n else float("nan")}
                rows.append(_place(run) | recall | counts | {"n": n})
        return pd.DataFrame(rows, columns=["variant", "fold", "seed", "class", "recall", "n_train", "n_test", "n"])

    def learning_curves(self) -> pd.DataFrame:
        """One row an epoch: variant, fold, seed, epoch, train_loss, dev_loss, dev_accuracy, learning_rate."""
        columns = ["variant", "fold", "seed", "epoch", "train_loss", "dev_loss", "dev_accuracy", "learning_rate"]
        rows = [_place(run) | epoch for run, record in self.finished() for epoch in record.curve]
        return pd.DataFrame(rows, columns=columns)

    def predictions(self, variant: str) -> dict[tuple[int, int], dict[str, np.ndarray]]:
        """Test predictions of one variant by (fold, seed): ids [N], label [N], logits [N, C]."""
        return {(run.fold, run.seed): record.predictions("test") for run, record in self.finished(variant)}

    def confusion(self, variant: str) -> np.ndarray:
        """Confusion matrix [C, C] of one variant, summed over its finished runs (rows are labels)."""
        total = np.zeros((len(self.corpus.classes),) * 2, int)
        return sum((record.confusion for _, record in self.finished(variant)), total)

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
        both = [Variant.from_name(name) for name in pair or ()]
        most = len(self.corpus.modalities)
        declared = declared_pairs(FAMILIES[:1] if declared is None else declared, both, most)
        if pair and set(pair) not in map(set, declared):
            reasons.append("the comparison was picked by hand")
        return ", and ".join(reasons)

    def comparisons(self, pairs: Iterable[Pair] | None = None, metric: str | None = None) -> list[Comparison]:
        """The declared pairs (or others) compared by the study's metric (or another), where the runs allow a verdict.

        The difference is second minus first; each one says why it is exploratory, if it is, and notes what is still
        missing. Pairs that cannot be judged yet are left out: see `open_pairs`. MmerError without a margin.
        """
        results, metric = self.results(), metric or self.primary_metric
        return [self._compare(results, pair, metric) for pair in self._pairs(pairs) if not self._open(results, pair)]

    def _compare(self, results: pd.DataFrame, pair: Pair, metric: str) -> Comparison:
        """A comparison, made once for the same runs: many tables and panels want it."""
        assert self.margin is not None  # see `_pairs`
        runs = tuple(id(record) for name in pair for _, record in self.finished(name))  # the ledger keeps them
        stamp, notes, known = self.exploratory(metric, pair), self._interim(pair), self.ledger.comparisons
        if (key := (pair, metric, self.margin, stamp, *notes, runs)) not in known:
            known[key] = compare(results, *pair, metric, rope=self.margin, exploratory=stamp)
            known[key].notes.extend([*notes, *self._undecided(pair)])
        return known[key]

    def open_pairs(self, pairs: Iterable[Pair] | None = None) -> dict[Pair, str]:
        """Why declared pairs (or others) cannot be judged by `comparisons` yet, in words."""
        results = self.results()
        return {pair: why for pair in self._pairs(pairs) if (why := self._open(results, pair))}

    def additions(self) -> list[Pair]:
        """What each modality adds: pairs of variants, one with all modalities and the same one without one of them."""
        return added_modalities(list(self.variants.values()), len(self.corpus.modalities))

    def judged(self) -> list[Difference]:
        """The verdicts on the declared pairs: over folds, or in a study of one or two folds on each split by itself.

        MmerError with the reason if there is none, though pairs are declared.
        """
        found, why = self._judged()
        if why and not found:
            raise MmerError(f"no declared comparison can be judged yet: {'; '.join(dict.fromkeys(why.values()))}")
        return found

    def unjudged(self) -> dict[str, str]:
        """Declared comparisons that `judged` leaves out, and why: a pair, or a pair on one of one or two splits."""
        return self._judged()[1]

    def comparison(self, first: str, second: str, metric: str | None = None) -> Comparison:
        """The verdict on two variants; MmerError with the reason if there can be none yet."""
        for why in self.open_pairs([(first, second)]).values():
            raise MmerError(why)
        return self.comparisons([(first, second)], metric)[0]

    def main_comparison(self) -> Comparison:
        """What deserves the closest look: the last declared pair that can be judged, or else the first two variants.

        MmerError with the reason if no pair can be judged, or the study declares no margin.
        """
        if declared := self.comparisons():
            return declared[-1]
        trained = [name for name in self.variants if self.finished(name)]
        if len(trained) < 2:
            raise MmerError(f"a comparison needs two trained variants; trained so far: {', '.join(trained) or 'none'}")
        pairs = [pair for pair in self.declaration.pairs if set(pair) <= set(trained)]
        by_hand = trained[0], trained[1]
        return self.comparison(*(pairs[-1] if pairs and self.open_pairs([by_hand]) else by_hand))

    def marked(self, variant: str) -> str:
        """A variant's name, with "7 of 10 runs" behind it while some are missing."""
        done, wanted = len(self.finished(variant)), len(self.folds) * len(self.seeds)
        return variant if done == wanted or variant not in self.variants else f"{variant} ({done} of {wanted} runs)"

    def _pairs(self, pairs: Iterable[Pair] | None) -> list[Pair]:
        if self.margin is None:
            raise MmerError("a verdict needs a margin: declare it in the study before the runs")
        return (self.declaration if pairs is None else self.declaration.changed(comparisons=pairs)).pairs

    def _open(self, results: pd.DataFrame, pair: Pair) -> str:
        """Why two variants cannot be judged over folds; empty if they can."""
        folds = [set(results.loc[results["variant"] == name, "fold"]) for name in pair]
        if folds[0] != folds[1] or not folds[0]:
            has = [f"has {'folds ' + ', '.join(map(str, sorted(mine))) if mine else 'no runs'}" for mine in folds]
            both = f"{pair[0]} {has[0]} and {pair[1]} {has[1]}"
            return f"both sides need the same folds, but {both}, of {len(self.folds)}"
        if len(folds[0]) < 3:
            return f"a verdict over folds needs three or more; {pair[0]} and {pair[1]} have {len(folds[0])}"
        return ""

    def _judged(self) -> tuple[list[Difference], dict[str, str]]:
        """`judged` and `unjudged`: what one pair or split lacks is no reason to be silent about the others."""
        pairs, found, why = self._pairs(None), [], {}
        if len(self.folds) > 2:
            return list(self.comparisons()), {f"{b} − {a}": said for (a, b), said in self.open_pairs().items()}
        for pair in pairs:
            for fold in self.folds:
                try:
                    found.append(self._on_split(pair, fold))
                except MmerError as error:
                    why[f"{pair[1]} − {pair[0]}, fold {fold}"] = str(error)
        return found, why

    def _on_split(self, pair: Pair, fold: int) -> Difference:
        assert self.margin is not None  # see `_pairs`
        runs = [{key: run for key, run in self.predictions(name).items() if key[0] == fold} for name in pair]
        if lacking := [name for name, mine in zip(pair, runs, strict=True) if not mine]:
            raise MmerError(f"{' and '.join(lacking)} {'has' if len(lacking) == 1 else 'have'} no run on fold {fold}")
        stamp = self.exploratory("accuracy", pair)
        (found,) = on_each_split(*runs, rope=self.margin, names=pair, exploratory=stamp)
        metric = found.metric if len(self.folds) == 1 else f"{found.metric} (fold {fold})"
        only = f"This split allows verdicts on accuracy only; none is given on the declared {self.primary_metric}."
        other = [only] if self.primary_metric != "accuracy" else []
        return replace(found, metric=metric, notes=[*found.notes, *other, *self._undecided(pair), *self._interim(pair)])

    def _undecided(self, pair: Pair) -> list[str]:
        """A note on variants whose runs give one answer to all utterances: that such are alike says nothing."""
        answers = {name: [np.count_nonzero(r.confusion.sum(0)) for _, r in self.finished(name)] for name in pair}
        dull = " or ".join(name for name, n in answers.items() if max(n, default=0) == 1)
        return [f"No run of {dull} tells any two utterances apart: each answers one class alone."] if dull else []

    def _interim(self, pair: Pair) -> list[str]:
        """A note where runs are missing."""
        missing = [mark for name in pair if (mark := self.marked(name)) != name]
        return [f"Interim, while runs are missing: {', '.join(missing)}."] if missing else []


def _place(run: Run) -> dict[str, Any]:
    return {"variant": run.variant.name, "fold": run.fold, "seed": run.seed}


def _result(run: Run, record: Record) -> dict:
    """One row of `Reader.results`."""
    counts = {f"n_{part}": record.brief["counts"][part] for part in PARTS}
    known = record.brief | record.scores | counts | vars(run.variant) | _place(run)
    return {column: known[column] for column in COLUMNS}
