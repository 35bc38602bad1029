"""The extraction itself: recordings go through extractors on all cores, and end in a plain folder.

    OUT/utterances.csv               id, label, and what else is known; written last
    OUT/corpus.toml                  a table for each set of features: its modality, its rate, and what made it
    OUT/features/<set>/<id>.npy      [T, D] float32, one file an utterance, each written whole or not at all
    OUT/recordings.csv               digests of what each of them was made of

What is there is not computed again unless its recording has changed, so that an extraction that was interrupted goes
on; a set that something else made is refused. Further sets may be added to a folder later.
"""

import contextlib
import io
import json
from collections import Counter
from collections.abc import Collection, Generator, Iterable, Mapping
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from loky import cpu_count
from tqdm import tqdm

from mmer_core.corpus import MODALITIES
from mmer_core.errors import CorpusError, MmerError
from mmer_core.extract import changes
from mmer_core.extract.features import EXTRACTORS, Features, build
from mmer_core.extract.found import Found, Recording
from mmer_core.extract.media import oddities
from mmer_core.extract.recordings import find
from mmer_core.extract.writing import table_of, tidy, toml_of, write
from mmer_core.formats.plain import SETTINGS, TABLE, settings_of, span
from mmer_core.running import check_device, in_own
from mmer_core.texts import read_toml

RECIPES = Path(__file__).with_name("recipes")
WORTH_A_WORKER = 30  # recordings: to start a process takes seconds
MOST_NAMED = 20  # recordings that an error names
Recipe = Mapping[str, Mapping[str, Any]]  # by modality the settings of its extractor
Results = Generator[tuple[Recording, str], None, None]  # each recording, and why it failed, or nothing


def recipe(name: str, chosen: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """The settings of an extractor for each modality.

    Args:
        name: "study", "modern", or a file of this form.
        chosen: by modality the name of another extractor, or "none".
    """
    own = RECIPES / f"{name}.toml"
    if not own.is_file() and not Path(name).is_file():
        known = ", ".join(sorted(file.stem for file in RECIPES.glob("*.toml")))
        raise MmerError(f"recipe: one of {known}, or a file; got {name!r}")
    told = read_toml(own if own.is_file() else Path(name), "a table for each modality")
    if odd := [m for m, x in told.items() if m not in MODALITIES.values() or not isinstance(x, dict)]:
        raise MmerError(f"recipe {name}: tables for {', '.join(MODALITIES.values())}; got {odd[0]!r}")
    for modality, extractor in chosen.items():
        if extractor == "none":
            told.pop(modality, None)
        elif told.get(modality, {}).get("extractor") != extractor:
            told[modality] = {"extractor": extractor}
    if not told:
        raise MmerError(f"recipe: an extractor for one modality or more ({', '.join(EXTRACTORS)}); got none")
    return {m: told[m] for m in MODALITIES.values() if m in told}


def extract(
    source: str | Path, out: str | Path, settings: Recipe, table: str | Path | None = None, skip: bool = False,
    device: str = "cpu", progress: bool = True,
) -> list[str]:  # fmt: skip
    """Extract features of all recordings of a source into the plain folder `out`; returns what is to be known of it.

    Args:
        source: recordings, IEMOCAP's release or MELD (see `recordings.find`), with the table of utterances if named.
        settings: see `recipe`.
        skip: leave out recordings that are missing or cannot be read (told), instead of refusing to end with them.
        device: where encoders run: on one that is no "cpu", many recordings at a time, in this process.

    MmerError, before any work, for settings that cannot be had; CorpusError for recordings that are missing, or at the
    end for those that cannot be read, with the reasons. What was computed stays, and is not computed again.
    """
    check_device(device)
    source, out = Path(source).resolve(), Path(out).resolve()
    found = find(source, None if table is None else Path(table).resolve())
    _check_apart(out, source, table, found)
    sets = {m: _on(device, build(m, x)) for m, x in settings.items()}
    missing = {r.id: lack for r in found.recordings if (lack := _lacks(r, sets))}
    _refuse(missing, skip, ", before anything was extracted")
    recordings = [r for r in found.recordings if r.id not in missing]
    known = settings_of(out)
    _check_same(out, sets, known)
    others = {name: x["modality"] for name, x in known.get("features", {}).items()}
    made = changes.made_of(recordings, others | {f.name: m for m, f in sets.items()}, progress)
    again = _declare(out, found, sets, known, {f.name: made[f.name] for f in sets.values()})
    old = Counter(name for name, _ in changes.outdated(out, made))
    failed, notes = _carry_out(out, recordings, settings, sets, device, progress)
    _refuse(failed, skip, "; all others are extracted")
    lost = {r.id: f"no features in {name}" for r in recordings for name in others if not _file(out, name, r).is_file()}
    rows = [r for r in recordings if r.id not in failed | lost]
    if not rows:
        raise CorpusError(source, "a recording that can be used", "none")
    write(out / TABLE, table_of(rows))
    told = [f"{again} features were made again, since their recordings have changed."] if again else []
    told += [f"{n} recordings have changed since {name} was made: extract it again, too." for name, n in old.items()]
    told += [f"{n} recordings: {note}." for note, n in notes.items()]
    told += [f"{id} is left out: {why}." for id, why in {**missing, **lost, **failed}.items()]
    told += [line for features in sets.values() for line in features.told(rows)]
    return [*found.told, *told, f"{len(rows)} utterances are in {out}."]


def _lacks(recording: Recording, sets: Mapping[str, Features]) -> str:
    """What a recording does not have that these features need."""
    lacks = {"audio": recording.sound is None, "video": recording.video is None, "text": "text" not in recording.facts}
    found = [f"no {m}" for m in sets if lacks[m]] + ["no label"] * (not recording.facts.get("label"))
    try:
        span("", recording.facts)
    except CorpusError as error:
        found.append(str(error).removeprefix(": "))
    return ", ".join(found)


def _on(device: str, features: Features) -> Features:
    """A set says where it was made if that was no CPU: the last bits differ."""
    kind = torch.device(device).type
    more = {"device": kind} if features.encoder and kind != "cpu" else {}
    return replace(features, made={**features.made, **more})


def _check_apart(out: Path, source: Path, table: str | Path | None, found: Found) -> None:
    """CorpusError if the folder would be written over what it is made of."""
    files = [f for r in found.recordings for f in (r.sound, r.video) if f]
    within = out.is_relative_to(source) and any(f.is_relative_to(out) for f in files)
    if out == source or within or (table and Path(table).resolve() == out / TABLE):
        raise CorpusError(out, "another folder than that of the recordings and their table", "that one")


def _refuse(bad: Mapping[str, str], skip: bool, when: str) -> None:
    if bad and not skip:
        some = "; ".join(f"{name}: {why}" for name, why in list(bad.items())[:MOST_NAMED])
        more = f"; and {len(bad) - MOST_NAMED} more" if len(bad) > MOST_NAMED else ""
        raise CorpusError(
            f"{len(bad)} recordings", f"all can be used (--skip leaves the others out){when}", f"{some}{more}"
        )


def _maker(features: Features) -> dict[str, Any]:
    """What corpus.toml says of a set, but for what it was made of."""
    rate = {} if features.rate is None else {"rate": features.rate}
    return {"modality": features.modality, **rate, **features.made}


def _check_same(out: Path, sets: Mapping[str, Features], known: Mapping[str, Any]) -> None:
    """MmerError if a set that is there was made by something else."""
    for features in sets.values():
        own = _maker(features)
        other = {k: x for k, x in known.get("features", {}).get(features.name, own).items() if k != "of"}
        if other != {k: x for k, x in own.items() if k in other or k != "settings"}:  # sets of before have none
            place = out / "features" / features.name
            raise MmerError(f"{place}: features made by {own}; they were made by {other}: name another folder")


def _declare(
    out: Path, found: Found, sets: Mapping[str, Features], known: Mapping[str, Any], made: changes.Made
) -> int:
    """Note what makes each set, and of what; returns how many features of changed recordings were taken away.

    CorpusError if the folder cannot be written to.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CorpusError(out, "a folder that can be written to", error.strerror or str(error)) from None
    tidy(out)
    every = dict(known.get("features", {}))
    every |= {f.name: _maker(f) | {"of": changes.whole(made[f.name])} for f in sets.values()}
    settings = {"name": found.name, **({"classes": found.classes} if found.classes else {}), **known, "features": every}
    again = [out / "features" / name / f"{id}.npy" for name, id in changes.outdated(out, made)]
    there = [file for file in again if file.is_file()]
    write(out / SETTINGS, toml_of(settings))
    for file in there:
        file.unlink()
    write(out / changes.RECORDINGS, changes.noted(out, made))
    return len(there)


def _carry_out(
    out: Path, recordings: list[Recording], settings: Recipe, sets: Mapping[str, Features], device: str, progress: bool
) -> tuple[dict[str, str], Counter]:
    """Compute what is not there yet; returns why recordings failed, and what was done to how many of the others."""
    notes: Counter = Counter()
    if "audio" in sets and (rate := sets["audio"].made.get("sampling_rate")):
        told = {r.id: _told(r, rate) for r in recordings}
        notes.update(note for found in told.values() for note in found)
    together = {m: f for m, f in sets.items() if f.encoder and device != "cpu"}
    alone = {m: f for m, f in sets.items() if m not in together}
    ways: list[tuple[list[Recording], Results]] = []
    if alone:
        todo = _todo(out, recordings, alone.values())
        ways.append((todo, _one_by_one(out, todo, settings, alone)))
    for features in together.values():
        todo = _todo(out, recordings, [features])
        ways.append((todo, _in_batches(out, todo, features, device)))
    failed: dict[str, str] = {}
    total = len(ways) * len(recordings)
    there = total - sum(len(todo) for todo, _ in ways)
    with tqdm(total=total, initial=there, unit="recording", ncols=100, disable=not progress) as bar:
        for _, way in ways:
            with contextlib.closing(way) as results:
                for recording, why in results:
                    if why:
                        failed.setdefault(recording.id, why)
                    bar.update()
    return {r.id: failed[r.id] for r in recordings if r.id in failed}, notes


def _todo(out: Path, recordings: list[Recording], sets: Collection[Features]) -> list[Recording]:
    return [r for r in recordings if any(not _file(out, features.name, r).is_file() for features in sets)]


def _one_by_one(out: Path, todo: list[Recording], settings: Recipe, sets: Mapping[str, Features]) -> Results:
    """Each recording through all these sets, on all cores."""
    here = {m: f for m, f in sets.items() if "file" in f.made}  # large tables of words are read by one process
    work = partial(_one, str(out), json.dumps({m: settings[m] for m in sets if m not in here}))
    with contextlib.closing(in_own(work, todo.copy(), min(cpu_count(), 1 + len(todo) // WORTH_A_WORKER))) as results:
        for recording, why in results:
            why = _why(why) if isinstance(why, Exception) else why
            yield recording, why or _computed(out, here.values(), recording)


def _in_batches(out: Path, todo: list[Recording], features: Features, device: str) -> Results:
    """All recordings through one encoder, many at a time on a device."""
    assert features.encoder
    with contextlib.closing(features.encoder.together(todo, device)) as results:
        for recording, x in results:
            yield recording, _why(x) if isinstance(x, Exception) else _filed(out, features, recording, x)


def _why(error: Exception) -> str:
    return str(error) if isinstance(error, MmerError) else f"{type(error).__name__}: {error}"


def _told(recording: Recording, rate: int) -> list[str]:
    try:
        return oddities(recording, rate)
    except Exception:  # it cannot be read, which is told where it is
        return []


@lru_cache(maxsize=1)
def _built(settings: str) -> list[Features]:
    """The extractors of a worker, made once."""
    return [build(m, x) for m, x in json.loads(settings).items()]


def _one(out: str, settings: str, recording: Recording) -> str:
    """Compute what a recording lacks; returns why it failed, or nothing."""
    return _computed(Path(out), _built(settings), recording)


def _computed(out: Path, sets: Iterable[Features], recording: Recording) -> str:
    for features in sets:
        if _file(out, features.name, recording).is_file():
            continue
        try:
            x = features.compute(recording)
        except MmerError as error:
            return str(error)
        if why := _filed(out, features, recording, x):
            return why
    return ""


def _filed(out: Path, features: Features, recording: Recording, x: np.ndarray) -> str:
    """Write the features of a recording; returns why they cannot be, or nothing."""
    if x.ndim != 2 or not x.size or not np.isfinite(x).all():
        return f"{features.name} gave {list(x.shape)} numbers, or some that are not finite"
    data = io.BytesIO()
    np.save(data, np.ascontiguousarray(x, np.float32))
    try:
        write(_file(out, features.name, recording), data.getvalue())
    except OSError as error:
        return f"it cannot be written: {error.strerror}"
    return ""


def _file(out: Path, features: str, recording: Recording) -> Path:
    return out / "features" / features / f"{recording.id}.npy"
