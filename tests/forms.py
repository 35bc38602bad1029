"""One small corpus, written in the forms in which corpora circulate (spec: formats.md), in the plainest way."""

import csv
import json
import pickle
from pathlib import Path
from types import SimpleNamespace

import numpy as np

CLASSES = ["calm", "cross", "glad", "shy", "dull", "wild", "sore"]  # as many as rounded scores have
SIZES = {"text": (6, 5), "video": (7, 3), "audio": (9, 4)}  # T, D


def made_up(n=40, seed=0, sessions=5) -> SimpleNamespace:
    """Utterances of an IEMOCAP that never was: two speakers a session, with ids of its form."""
    rng = np.random.default_rng(seed)
    session = np.arange(n) % sessions + 1
    letter = np.where(rng.random(n) < 0.5, "F", "M")
    ids = [f"Ses0{s}F_impro0{1 + i % 2}_{g}{i:03d}" for i, (s, g) in enumerate(zip(session, letter, strict=True))]
    lengths = {m: rng.integers(1, steps + 1, n) for m, (steps, _) in SIZES.items()}
    frames = {
        m: [rng.standard_normal((k, SIZES[m][1])).astype(np.float32) for k in lengths[m]] for m in SIZES
    }  # [n, D] each
    return SimpleNamespace(
        ids=ids,
        label=np.concatenate([np.arange(7), rng.integers(7, size=n - 7)]),
        session=[f"Ses0{s}" for s in session],
        speaker=[f"Ses0{s}{g}" for s, g in zip(session, letter, strict=True)],
        text=[" ".join(f"w{rng.integers(30)}" for _ in range(k)) for k in lengths["text"]],
        lengths=lengths,
        frames=frames,
        parts={"train": range(0, n - 16), "dev": range(n - 16, n - 8), "test": range(n - 8, n)},
    )


def padded(data, modality, rows, left=False) -> np.ndarray:
    """[N, T, D] with zeros behind the frames, or before them."""
    steps, dim = SIZES[modality]
    x = np.zeros((len(rows), steps, dim), np.float32)
    for out, i in zip(x, rows, strict=True):
        n = data.lengths[modality][i]
        out[steps - n if left else 0 : steps if left else n] = data.frames[modality][i]
    return x


def write_plain(folder: Path, data, columns=("text", "speaker", "session"), modalities=SIZES, npz=False, rows=None):
    folder.mkdir(parents=True)
    rows = list(range(len(data.ids)) if rows is None else rows)
    with open(folder / "utterances.csv", "w", newline="", encoding="utf-8") as f:
        writer = csv.writer(f)
        writer.writerow(["id", "label", *columns])
        writer.writerows([data.ids[i], CLASSES[data.label[i]], *(getattr(data, c)[i] for c in columns)] for i in rows)
    (folder / "corpus.toml").write_text(f"classes = {json.dumps(CLASSES)}\n[rates]\naudio = 100\n")
    for m in modalities:
        if npz:
            np.savez_compressed(folder / f"{m}.npz", **{data.ids[i]: data.frames[m][i] for i in rows})
        else:
            (folder / m).mkdir()
            for i in rows:
                np.save(folder / m / f"{data.ids[i]}.npy", data.frames[m][i])
    return folder


def write_mmsa(file: Path, data, **changes):
    """As MMSA's unaligned files: a mask for text, lengths for the others; the score is the label minus 3."""
    written = {}
    for part, rows in data.parts.items():
        mask = (np.arange(SIZES["text"][0]) < data.lengths["text"][rows][:, None]).astype(np.float32)
        written["valid" if part == "dev" else part] = {
            "raw_text": [data.text[i] for i in rows],
            "id": [f"{data.session[i]}$_${data.ids[i]}" for i in rows],
            "text_bert": np.stack([7 * mask, mask, 0 * mask], 1),
            "regression_labels": (data.label[rows] - 3).astype(np.float32),
            "audio_lengths": data.lengths["audio"][rows].tolist(),
            "vision_lengths": data.lengths["video"][rows].tolist(),
            **{k: padded(data, m, rows) for k, m in (("text", "text"), ("vision", "video"), ("audio", "audio"))},
            **{key: change(rows) for key, change in changes.items()},
        }
    file.write_bytes(pickle.dumps(written, protocol=4))
    return file


def write_mult(file: Path, data, left=True, labels=None, protocol=2):
    """As MulT's: float64, ids of three parts in bytes, scores [N, 1, 1] or what `labels` makes of some rows."""
    written = {}
    for part, rows in data.parts.items():
        score = (data.label[rows] - 3.0)[:, None, None]
        written["valid" if part == "dev" else part] = {
            "labels": labels(rows) if labels else score,
            "id": np.array([[data.ids[i].encode(), b"0", b"1.5"] for i in rows]),
            **{
                k: padded(data, m, rows, left).astype(np.float64)
                for k, m in (("text", "text"), ("vision", "video"), ("audio", "audio"))
            },
        }
    file.write_bytes(pickle.dumps(written, protocol=protocol))
    return file


def write_amh(tree: Path, data, splits, left=()):
    """AMH folds of ready text vectors; the modalities in `left` are padded on the left."""
    for k, parts in splits.items():
        (folder := tree / f"fold{k:02d}").mkdir(parents=True)
        (folder / "classes.json").write_text(json.dumps(CLASSES))
        for part, rows in parts.items():
            arrays = {"audio_seqN": data.lengths["audio"][rows], "video_seqN": data.lengths["video"][rows]}
            arrays |= {"label": data.label[rows], "audio_mfcc": padded(data, "audio", rows, "audio" in left)}
            arrays |= {m: padded(data, m, rows, m in left) for m in ("text", "video")}
            for name, x in arrays.items():
                np.save(folder / f"{part}_{name}.npy", x)
    return tree
