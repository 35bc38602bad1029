"""How far a study is: what is done, running, failed and missing, how long the rest may take. Needs no torch."""

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import TypeVar

import pandas as pd
from loky import cpu_count

from mmer_core.corpus import Corpus
from mmer_core.declaration import Declaration
from mmer_core.events import Event
from mmer_core.ledger import Ledger
from mmer_core.paths import root
from mmer_core.protocol import Protocol
from mmer_core.reading import Reader
from mmer_core.record import Run
from mmer_core.variant import effort

W = TypeVar("W", bound="Watched")


class Watched(Reader):
    """A declaration whose runs somebody trains, here or elsewhere."""

    @classmethod
    def from_declaration(cls: type[W], corpus: Corpus, declaration: Declaration, ledger: Ledger | None = None) -> W:
        """The study of a whole declaration, with a ledger that may be open already."""
        study = cls.__new__(cls)
        Watched.__init__(study, corpus, declaration, ledger)
        return study

    def by_features(self: W) -> dict[str, W]:
        """This study with each declared set of features, by its name; itself, without a name, where there is one."""
        declared = self.declaration.by_features()
        return {name: self.from_declaration(d.open_corpus(), d) for name, d in declared.items()} or {"": self}

    def __repr__(self) -> str:
        changed = {k: v for k, v in asdict(self.protocol).items() if v != getattr(Protocol, k)}
        protocol = "".join(f", {k} = {v} (paper: {getattr(Protocol, k)})" for k, v in changed.items())
        what = f"{len(self.variants)} variants on the {self.corpus.title}{protocol}"
        what += f", {len(self.left_out)} more need a modality that it lacks" if self.left_out else ""
        return f"<study of {what}: {len(self.runs) - len(self.missing())} of {len(self.runs)} runs done>"

    def status(self) -> pd.DataFrame:
        """One row a variant: runs done, wanted, running here and failed, mean scores so far, hours spent."""
        results, failed = self.results(), self.failed()
        going, keys = self.ledger.log.running(), {run.key: run.variant.name for run in self.runs}
        running, rows = Counter(keys.get(key) for key in going), []
        for name in self.variants:
            mine = results[results["variant"] == name]
            row = {"variant": name, "done": len(mine), "runs": len(self.folds) * len(self.seeds)}
            row["running"] = running[name]
            row["failed"] = sum(run.variant.name == name for run in failed)
            row |= {metric: mine[metric].mean() for metric in ("accuracy", "balanced_accuracy", self.primary_metric)}
            rows.append(row | {"hours": mine["seconds"].sum() / 3600})
        return pd.DataFrame(rows)

    def progress(self) -> str:
        """What has been trained and what is missing, about how long that would take, and what trains it."""
        missing = self.missing()
        if not missing:
            return f"All {len(self.runs)} runs of this study are trained."
        told = [f"{len(self.runs) - len(missing)} of {len(self.runs)} runs of this study are trained."]
        lacking = dict.fromkeys(run.variant.name for run in missing)
        told.append(f"Missing: {', '.join(self.marked(name) for name in lacking)}.")
        told += [f"{run} failed: {why}." for run, why in self.failed().items()]
        left = self.seconds_left(missing)
        if left is None:
            told.append("How long they take is known when the first one is done.")
        else:
            told.append(f"They would take about {duration(left)} here.")
        file = self.declaration.file
        which = f" --study {file}" if file and file != root() / "data" / "study.toml" else ""
        return " ".join([*told, f"Notebooks 02 and 03 train them, or: python -m mmer_core{which} run"])

    def seconds_left(self, runs: Sequence[Run] | None = None, workers: int | None = None) -> float | None:
        """How long runs (by default the missing ones) will take, by the seconds of those in the ledger.

        None if there are none. By default the runs share all cores, one run a core. A variant that was not trained yet
        takes as long as others in proportion to its `effort`.
        """
        runs, done = self.missing() if runs is None else runs, self.results()
        if not runs or done.empty:
            return None if runs else 0.0
        variants = self.variants | {run.variant.name: run.variant for run in runs}
        efforts = {name: effort(variant, self.corpus.sizes) for name, variant in variants.items()}
        rate = done["seconds"].sum() / done["variant"].map(efforts).sum()
        known = done.groupby("variant")["seconds"].mean()
        total = sum(known.get(run.variant.name, rate * efforts[run.variant.name]) for run in runs)
        return float(total / (workers or min(cpu_count(), len(runs))))


class Watch:
    """How far the training of some runs is, by what the log says from now on."""

    def __init__(self, study: Watched, runs: Sequence[Run]):
        self.study, self.last, self._began, self._at = study, "", time.monotonic(), study.ledger.log.end()
        self.waiting: dict[str, Run] = {run.key: run for run in runs if not study.ledger.has(run)}
        self.total = len(self.waiting)
        self._left: float | None = None

    @property
    def done(self) -> int:
        """Runs that were filed or have failed."""
        return self.total - len(self.waiting)

    def news(self) -> list[Event]:
        """Events since it was asked last."""
        events, self._at = self.study.ledger.log.since(self._at)
        for event in events:
            if (key := event.get("key", "")) in self.waiting:
                self.last = f"{event.get('run')}: {event.get('told', 'begins')}"
                if event["event"] in ("run filed", "run failed"):
                    del self.waiting[key]
                    self._left = None
        return events

    def __str__(self) -> str:
        if self._left is None:  # something was filed
            self._left = self.study.seconds_left(list(self.waiting.values()))
        told = f"{self.done} of {self.total} runs done, {duration(time.monotonic() - self._began)} so far"
        return told + (f", about {duration(self._left)} left" if self._left else "")


def duration(seconds: float) -> str:
    """As one says it: 40 seconds, 12 minutes, 3.5 hours."""
    if seconds < 90:
        return "1 second" if seconds < 1.5 else f"{seconds:.0f} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 7200 else f"{seconds / 3600:.1f} hours"
