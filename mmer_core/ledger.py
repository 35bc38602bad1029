"""The ledger: a folder with one immutable record per run, written whole or not at all.

<ledger>/<variant>/fold<k>_seed<s>_<key>/
    run.json             what the run was, its scores, confusion matrix and learning curve, and where it came from
    predictions.npz      dev and test: utterance ids [N], labels [N], logits [N, C]
    weights.safetensors  of the best epoch, under the published names
<ledger>/<variant>/fold<k>_seed<s>_<key>.failed.json: the error of a run that was tried and has no record yet
<ledger>/declared-<corpus>.json: what was declared before the first run
"""

import hashlib
import io
import json
import os
import shutil
import tempfile
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save_file

from mmer_core.corpus import PARTS, Corpus
from mmer_core.errors import CorpusError
from mmer_core.metrics import confusion, scores, scores_from
from mmer_core.protocol import Protocol
from mmer_core.provenance import made_here
from mmer_core.training import Trained
from mmer_core.variant import Variant

GUARD = ', "digest": "'  # the end of run.json: the digest of what stands before it


@dataclass(frozen=True)
class Run:
    """One training: all that decides its result, but the machine. The fields, as plain values, are its identity."""

    corpus: str  # its fingerprint
    variant: Variant
    fold: int
    seed: int
    protocol: Protocol

    @cached_property
    def identity(self) -> str:
        """The fields in one text, the same everywhere."""
        plain = {"corpus": self.corpus, "variant": _plain(self.variant), "protocol": _plain(self.protocol)}
        return json.dumps({**plain, "fold": self.fold, "seed": self.seed}, sort_keys=True)

    @cached_property
    def key(self) -> str:
        return hashlib.blake2b(self.identity.encode(), digest_size=6).hexdigest()

    @cached_property
    def folder(self) -> str:
        return f"{self.variant.name}/fold{self.fold}_seed{self.seed}_{self.key}"

    def __str__(self) -> str:
        return f"{self.variant.name} fold {self.fold} seed {self.seed}"


@lru_cache(maxsize=1000)
def _plain(settings: Variant | Protocol) -> dict[str, Any]:
    return asdict(settings)


class Record:
    """One finished run on disk; predictions and weights are read when asked for."""

    def __init__(self, folder: Path):
        self.folder = folder
        try:
            self.summary, intact = _guarded((folder / "run.json").read_bytes())
            _check(self.summary)
            self.curve: list[dict[str, float]] = self.summary["curve"]
            self.confusion = _matrix(self.summary["confusion"], len(self.summary["classes"]))
            follow = _check_counts(self.summary, self.confusion)
            self.scores: dict[str, float] = {**follow, **self.summary["scores"]}  # an older record lacks some
            if not intact:
                raise ValueError("it was changed after it was written")
        except (OSError, ValueError, KeyError, TypeError) as error:
            found = f"{type(error).__name__}: {error}; delete the folder to train this run again"
            raise CorpusError(folder / "run.json", "the record of a run", found) from None

    def predictions(self, part: str = "test") -> dict[str, np.ndarray]:
        """ids [N], label [N], logits [N, C] of the part "dev" or "test", in the order of the fold."""
        file, n = self.folder / "predictions.npz", self.summary["counts"][part]
        try:
            data = self._bytes(file)
            with np.load(io.BytesIO(data), allow_pickle=False) as z:
                found = {what: z[f"{part}_{what}"] for what in ("ids", "label", "logits")}
        except Exception as error:  # zipfile and numpy have many
            raise CorpusError(file, f"predictions of the {part} part", f"{error}"[:200]) from None
        if [x.shape for x in found.values()] != [(n,), (n,), (n, len(self.confusion))]:
            raise CorpusError(file, f"{n} predictions of the {part} part", f"{[x.shape for x in found.values()]}")
        return found

    def weights(self) -> dict[str, np.ndarray]:
        """Weights of the best epoch under the published names."""
        file = self.folder / "weights.safetensors"
        try:
            return load(self._bytes(file))
        except (OSError, ValueError, SafetensorError) as error:
            raise CorpusError(file, "the weights of a run", str(error)) from None

    def _bytes(self, file: Path) -> bytes:
        """A file of the record; ValueError unless it is as it was written, where an older record does not say."""
        data, noted = file.read_bytes(), self.summary.get("files", {})
        if noted and noted.get(file.name) != _digest(data):
            raise ValueError("another content than was written; see `status --verify`")
        return data


class Ledger:
    """The records of any number of studies, one folder a run; and what was declared before the first of them."""

    def __init__(self, folder: str | Path):
        self.folder = Path(folder).expanduser().resolve()
        self._records: dict[tuple, Record] = {}  # by place and state of run.json
        self.comparisons: dict[tuple, Any] = {}  # of variants, by the records that they are made from

    def declare(self, fingerprint: str, **declared: object) -> None:
        """Note what a study of this corpus declares, unless it was noted before."""
        file = self.folder / f"declared-{fingerprint}.json"
        if not file.is_file():
            _write(file, {**declared, "when": _now()})

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
        _write(self._note(run), {"run": str(run), "error": f"{type(error).__name__}: {error}", "when": _now()})

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
            record = Record(self.folder / run.folder)
            if json.dumps(record.summary.get("run"), sort_keys=True) != run.identity:
                raise CorpusError(record.folder / "run.json", f"the record of {run}", "that of another run")
            self._records[version] = record
        return self._records[version]

    def verify(self, run: Run) -> str | None:
        """What is wrong with the record of a run, all of its files read; None if nothing is, or there is none."""
        try:
            if (record := self.find(run)) is not None:
                record.predictions("dev"), record.predictions("test"), record.weights()
        except CorpusError as error:
            return str(error)
        return None

    def set_aside(self, run: Run) -> None:
        """Take a record out of the way, whatever it holds, so that its run can be trained again."""
        place = self.folder / run.folder
        os.replace(place, place.with_name(f".damaged-{place.name}-{os.urandom(4).hex()}"))

    def read(self, run: Run) -> Record:
        """As `find`, but CorpusError if it is not there."""
        return self.find(run) or Record(self.folder / run.folder)

    def write(self, run: Run, corpus: Corpus, trained: Trained) -> Record:
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
            save_file({k: np.asarray(w) for k, w in trained.weights.items()}, scratch / "weights.safetensors")
            files = {file.name: _digest(file.read_bytes()) for file in sorted(scratch.iterdir())}
            summary |= {"files": files}
            text = json.dumps(summary)
            (scratch / "run.json").write_text(f'{text[:-1]}{GUARD}{_digest(text.encode())}"}}', encoding="utf-8")
            os.chmod(scratch / "weights.safetensors", (scratch / "run.json").stat().st_mode)  # colleagues read it, too
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


_NUMBER = (int, float)
_TYPES: dict[str, type | tuple[type, ...]] = {  # of what tables and figures are made of
    **{"scores": dict, "counts": dict, "curve": list, "classes": list, "provenance": dict},
    **{"dev_accuracy": _NUMBER, "seconds": _NUMBER, "parameters": int, "best_epoch": int},
}


def _check(summary: dict) -> None:
    """KeyError or TypeError if the summary of a run lacks something, or holds it in another type."""
    for name, types in _TYPES.items():
        if not isinstance(summary[name], types):
            raise TypeError(f"{name} is {type(summary[name]).__name__}")
    for name, n in [*summary["scores"].items(), *((part, summary["counts"][part]) for part in PARTS)]:
        if type(n) not in _NUMBER or not np.isfinite(n):
            raise TypeError(f"{name} is {n!r}")
    if not all(isinstance(epoch, dict) for epoch in summary["curve"]):
        raise TypeError("curve is no list of epochs")


def _digest(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def _guarded(data: bytes) -> tuple[dict, bool]:
    """run.json, and whether it is as it was written; an older record does not say, and is taken for it."""
    body, guard, digest = data.rpartition(GUARD.encode())
    summary = json.loads(data)
    expected = (_digest(body + b"}") + '"}').encode()
    return summary, digest == expected if guard else "files" not in summary


def _check_counts(summary: dict, confusion: np.ndarray) -> dict[str, float]:
    """The scores that follow; ValueError if numbers of a record contradict each other, or no run can have them."""
    follow, counts, epochs = scores_from(confusion), summary["counts"], len(summary["curve"])
    odd = [f"{m} {x}" for m, x in summary["scores"].items() if m in follow and abs(x - follow[m]) > 1e-9]
    odd += [f"{part} {counts[part]}" for part in PARTS if type(counts[part]) is not int or counts[part] < 1]
    odd += [] if counts["test"] == confusion.sum() else [f"{confusion.sum()} predictions of {counts['test']}"]
    odd += [] if 1 <= summary["best_epoch"] <= epochs else [f"best epoch {summary['best_epoch']} of {epochs}"]
    odd += [] if 0 <= summary["dev_accuracy"] <= 1 else [f"dev accuracy {summary['dev_accuracy']}"]
    if odd:
        raise ValueError(f"it contradicts itself: {', '.join(odd)}")
    return follow


def _matrix(rows: object, classes: int) -> np.ndarray:
    """A confusion matrix [C, C] of counts; ValueError if it is none."""
    matrix = np.array(rows)
    if matrix.shape != (classes, classes) or matrix.dtype.kind != "i" or matrix.min() < 0 or matrix.sum() == 0:
        raise ValueError(f"confusion is no matrix of counts for {classes} classes")
    return matrix


def _write(file: Path, noted: dict) -> None:
    """Write a small file whole or not at all."""
    file.parent.mkdir(parents=True, exist_ok=True)
    scratch = file.with_name(f".{file.name}-{os.urandom(4).hex()}")
    try:
        scratch.write_text(json.dumps(noted), encoding="utf-8")
        os.replace(scratch, file)
    finally:
        scratch.unlink(missing_ok=True)


def _provenance(corpus: Corpus, trained: Trained) -> dict:
    """Of the process that trained a run, and of its corpus."""
    data = {"corpus": corpus.name, "synthetic": corpus.synthetic}
    return data | (trained.made or made_here()) | {"device": trained.device, "finished": _now()}


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
