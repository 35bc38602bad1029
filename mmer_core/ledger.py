"""The ledger: a folder with one immutable record per run, written whole or not at all.

<ledger>/<variant>/fold<k>_seed<s>_<key>/
    run.json             what the run was, its scores, confusion matrix and learning curve, and where it came from
    predictions.npz      dev and test: utterance ids [N], labels [N], logits [N, C]
    weights.safetensors  of the best epoch, under the published names
<ledger>/<variant>/fold<k>_seed<s>_<key>.failed.json: the error of a run that was tried and has no record yet
<ledger>/declared-<corpus>.json: what was declared before the first run
<ledger>/events.jsonl: what happened when (see `events`); to lose it loses no result
<ledger>/index.json: of many records what tables need, so that they open in less time; stale entries are not believed
"""

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterable
from dataclasses import asdict
from datetime import datetime, timezone
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors.numpy import save, save_file

from mmer_core.corpus import Corpus
from mmer_core.errors import CorpusError
from mmer_core.events import Log
from mmer_core.metrics import confusion, scores
from mmer_core.paths import write_whole
from mmer_core.provenance import made_here
from mmer_core.record import WEIGHTS, Record, Run, as_written, digest_of, guarded, with_guard

if TYPE_CHECKING:  # reading needs no torch
    from mmer_core.training import Trained

INDEX_FROM = 500  # records that were read one by one, after which an index of them is worth its time
Version = tuple[str, int, int, int]  # of a run.json: its folder, inode, size and time of its last change


class Ledger:
    """The records of any number of studies, one folder a run; and what was declared before the first of them."""

    def __init__(self, folder: str | Path):
        self.folder = Path(folder).expanduser().resolve()
        self.log = Log(self.folder / "events.jsonl")
        self._records: dict[Version, Record] = {}
        self._unindexed = 0
        self.comparisons: dict[tuple, Any] = {}  # of variants, by the records that they are made from

    def declare(self, fingerprint: str, **declared: object) -> None:
        """Note what a study of this corpus declares, unless it was noted before."""
        file = self.folder / f"declared-{fingerprint}.json"
        if not file.is_file():
            _write(file, json.dumps({**declared, "when": _now()}).encode())

    def declared(self, fingerprint: str) -> dict:
        """What was noted by `declare`; empty if nothing was."""
        file = self.folder / f"declared-{fingerprint}.json"
        try:
            noted = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
            return {**noted, **{name: noted[name] for name in ("primary_metric", "margin") if noted}}
        except (ValueError, KeyError, TypeError) as error:
            raise CorpusError(file, "what was declared before the runs", f"{type(error).__name__}: {error}") from None

    def fail(self, run: Run, error: Exception) -> None:
        """Note that a run was tried and failed; a record that comes later takes the note away."""
        noted = {"run": str(run), "error": f"{type(error).__name__}: {error}", "when": _now()}
        _write(self._note(run), json.dumps(noted).encode())

    def failure(self, run: Run) -> str | None:
        """The error of a run that was tried and failed, if that is all there is of it."""
        file = self._note(run)
        if not os.path.isfile(file) or self.has(run):
            return None
        try:
            return str(json.loads(file.read_text(encoding="utf-8"))["error"])
        except (OSError, ValueError, KeyError, TypeError):
            return "its note cannot be read"

    def _note(self, run: Run) -> Path:
        return self.folder / f"{run.folder}.failed.json"

    def has(self, run: Run) -> bool:
        return os.path.isfile(f"{self.folder}/{run.folder}/run.json")

    def find(self, run: Run) -> Record | None:
        """The record of a run, shared and read again only when it has changed; CorpusError if it is damaged."""
        try:
            now = os.stat(f"{self.folder}/{run.folder}/run.json")
        except OSError:
            return None
        version = (run.folder, now.st_ino, now.st_size, now.st_mtime_ns)
        if version not in self._records:
            self._records[version] = self._indexed(version) or self._opened(run)
        return self._records[version]

    def find_all(self, runs: Iterable[Run]) -> list[tuple[Run, Record]]:
        """As `find`, of many; those that are there."""
        found = [(run, record) for run in runs if (record := self.find(run))]
        if self._unindexed >= INDEX_FROM:
            self._write_index()
        return found

    def _opened(self, run: Run) -> Record:
        record = Record(self.folder / run.folder)
        if json.dumps(record.summary["run"], sort_keys=True) != run.identity:
            raise CorpusError(record.folder / "run.json", f"the record of {run}", "that of another run")
        self._unindexed += 1
        return record

    def _indexed(self, version: Version) -> Record | None:
        folder, *state = version
        noted = self._index.get(folder)
        return Record(self.folder / folder, noted[1]) if noted and noted[0] == state else None

    @cached_property
    def _index(self) -> dict[str, list]:
        """Of records that were checked: the state of run.json, and the brief. Empty if there is no whole index."""
        try:
            index, intact = guarded((self.folder / "index.json").read_bytes())
            return index["records"] if intact else {}
        except (OSError, ValueError, KeyError, TypeError):
            return {}

    def _write_index(self) -> None:
        self._index |= {folder: [state, record.brief] for (folder, *state), record in self._records.items()}
        self._unindexed = 0
        with contextlib.suppress(OSError):  # a ledger that may only be read, or a full disk: the next one takes longer
            _write(self.folder / "index.json", with_guard({"records": self._index}))

    def verify(self, run: Run) -> str | None:
        """What is wrong with the record of a run, all of its files read; None if nothing is, or there is none."""
        try:
            if self.has(run):
                record = self._opened(run)
                record.predictions("dev"), record.predictions("test"), record.pruned or record.weights()
        except CorpusError as error:
            return str(error)
        return None

    def prune(self, run: Run) -> int:
        """Give up the weights of a finished run; returns the bytes that this frees. Its record says so first."""
        record, file = self._opened(run), self.folder / run.folder / WEIGHTS
        freed = file.stat().st_size if file.is_file() else 0
        if not record.pruned:
            kept = {name: value for name, value in record.summary.items() if name != "digest"}
            _write(record.folder / "run.json", with_guard(kept | {"pruned": [WEIGHTS]}))
        file.unlink(missing_ok=True)
        return freed

    def restore(self, run: Run, weights: dict[str, np.ndarray]) -> bool:
        """Put pruned weights back; False, and nothing is done, if they are not the same bits as before."""
        record, data = self.read(run), save(weights)
        if record.summary.get("files", {}).get(WEIGHTS) not in (None, digest_of(data)):
            return False
        _write(record.folder / WEIGHTS, data)
        _write(record.folder / "run.json", as_written((record.folder / "run.json").read_bytes()))
        return True

    def set_aside(self, run: Run) -> None:
        """Take a record out of the way, whatever it holds, so that its run can be trained again."""
        place = self.folder / run.folder
        os.replace(place, place.with_name(f".damaged-{place.name}-{os.urandom(4).hex()}"))

    def read(self, run: Run) -> Record:
        """As `find`, but CorpusError if it is not there."""
        return self.find(run) or Record(self.folder / run.folder)

    def write(self, run: Run, corpus: Corpus, trained: "Trained") -> Record:
        """File a finished run. A record that is there already stays as it is."""
        rows = corpus.folds[run.fold]
        label, predicted = corpus.label[rows.test], trained.logits["test"].argmax(1)
        classes = len(corpus.classes)
        summary = {
            "run": asdict(run),
            "variant": run.variant.name,
            "scores": scores(label, predicted, classes),
            "best_epoch": trained.best_epoch,
            "dev_accuracy": trained.curve[trained.best_epoch - 1]["dev_accuracy"],
            "parameters": trained.parameters,
            "counts": {part: len(r) for part, r in rows._asdict().items()},
            "seconds": round(trained.seconds, 3),
            "classes": corpus.classes,
            "confusion": confusion(label, predicted, classes).tolist(),
            "curve": trained.curve,
            "provenance": _provenance(corpus, trained),
        }
        ids = np.array(corpus.ids)
        predictions: dict[str, np.ndarray] = {}
        for part, logits in trained.logits.items():
            r = getattr(rows, part)
            predictions |= {f"{part}_ids": ids[r], f"{part}_label": corpus.label[r], f"{part}_logits": logits}

        place = self.folder / run.folder
        place.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=".unfinished-", dir=place.parent))
        try:
            scratch.chmod(0o755)
            np.savez_compressed(scratch / "predictions.npz", **predictions)  # type: ignore[arg-type]  # arrays, no flags
            save_file({k: np.asarray(w) for k, w in trained.weights.items()}, scratch / WEIGHTS)
            files = {file.name: digest_of(file.read_bytes()) for file in sorted(scratch.iterdir())}
            (scratch / "run.json").write_bytes(with_guard(summary | {"files": files}))
            os.chmod(scratch / WEIGHTS, (scratch / "run.json").stat().st_mode)  # colleagues read it, too
            self._place(scratch, place, run)
            self._note(run).unlink(missing_ok=True)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
        return self.read(run)

    def _place(self, scratch: Path, place: Path, run: Run) -> None:
        """Give a whole record its name, unless another process was first."""
        if place.exists() and not self.has(run):  # the rest of a record: set aside, whatever it holds
            self.set_aside(run)
        try:
            if not self.has(run):
                os.replace(scratch, place)
        except OSError:
            if not self.has(run):
                raise


def _write(file: Path, data: bytes) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    write_whole(file, data)


def _provenance(corpus: Corpus, trained: "Trained") -> dict:
    """Of the process that trained a run, and of its corpus."""
    data = {"corpus": corpus.name, "synthetic": corpus.synthetic}
    return data | (trained.made or made_here()) | {"device": trained.device, "finished": _now()}


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
