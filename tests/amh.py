"""A random AMH tree, written in the plainest way, and what a reader has to make of it (spec: paper.md, Data)."""

import json
from pathlib import Path

import numpy as np

PARTS = ("train", "dev", "test")
SMALL = {"text": (6, 5), "video": (4, 3), "audio": (9, 2)}  # T, D
IEMOCAP = {"text": (128, 300), "video": (32, 2048), "audio": (1000, 120)}


def random_data(n=20, sizes=SMALL, classes=3, words=30, seed=0):
    """{file name: array} of n utterances without anything odd: all have video, audio and words."""
    rng = np.random.default_rng(seed)
    data = {"W_embedding": rng.standard_normal((words, sizes["text"][1])).astype(np.float32)}
    data["W_embedding"][0] = 0
    for name, modality in (("audio_mfcc", "audio"), ("video", "video")):
        steps, dim = sizes[modality]
        data[name] = np.zeros((n, steps, dim), np.float32)
        length = data["audio_seqN" if modality == "audio" else "video_seqN"] = rng.integers(1, steps + 1, n)
        for i in range(n):
            data[name][i, : length[i]] = 100 * rng.standard_normal(dim) + rng.standard_normal((length[i], dim))
    data["nlp_trans"] = np.zeros((n, sizes["text"][0]), np.int32)
    for i in range(n):
        length = rng.integers(1, sizes["text"][0] + 1)
        data["nlp_trans"][i, :length] = rng.integers(1, words, length)
    data["label"] = np.concatenate([np.arange(classes), rng.integers(classes, size=n - classes)])
    return data


def random_splits(n=20, folds=2, seed=0):
    """{fold: {part: rows}}: five slices, each fold with another one as its test part."""
    slices = np.array_split(np.random.default_rng(seed).permutation(n), 5)
    splits = {}
    for k in range(folds):
        train = np.concatenate([slices[j] for j in range(5) if j not in (k, (k + 1) % 5)])
        splits[k + 1] = {"train": train, "dev": slices[(k + 1) % 5], "test": slices[k]}
    return splits


def write_tree(root: Path, data, splits, text="tokens", classes=("sad", "glad", "mad")):
    """One folder a fold; text as "tokens", as "vectors" or as "vectors and vocabulary"."""
    for k, parts in splits.items():
        folder = root / f"fold{k:02d}"
        folder.mkdir(parents=True)
        if text != "vectors":
            np.save(folder / "W_embedding.npy", data["W_embedding"])
        if classes:
            (folder / "classes.json").write_text(json.dumps(classes))
        for part, rows in parts.items():
            for name in ("audio_mfcc", "audio_seqN", "video", "video_seqN", "label"):
                np.save(folder / f"{part}_{name}.npy", data[name][rows])
            if text == "tokens":
                np.save(folder / f"{part}_nlp_trans.npy", data["nlp_trans"][rows])
            else:
                np.save(folder / f"{part}_text.npy", data["W_embedding"][data["nlp_trans"][rows]])
    return root


def rewrite(file: Path, change):
    """Replace the array in a file by `change(array)`, or change it in place if that returns nothing."""
    array = np.load(file)
    changed = change(array)
    np.save(file, array if changed is None else changed)


def expected_lengths(data):
    """The lengths a reader has to find, counted one utterance at a time."""
    lengths = {"text": [], "video": [], "audio": []}
    for i in range(len(data["label"])):
        tokens = data["nlp_trans"][i].tolist()
        while tokens and tokens[-1] == 0:
            tokens.pop()
        lengths["text"].append(max(1, len(tokens)))
        lengths["video"].append(min(data["video_seqN"][i], data["video"].shape[1]))
        lengths["audio"].append(max(1, min(data["audio_seqN"][i], data["audio_mfcc"].shape[1])))
    return lengths


def assert_same_content(corpus, data, splits):
    """Every row of every part of every fold holds what was written for it, utterances without video left out."""
    lengths = expected_lengths(data)
    written = {"text": data["W_embedding"][data["nlp_trans"]], "video": data["video"], "audio": data["audio_mfcc"]}
    assert list(corpus.folds) == sorted(splits)
    for k, parts in splits.items():
        for part in PARTS:
            kept = [i for i in parts[part] if data["video_seqN"][i] > 0]
            rows = getattr(corpus.folds[k], part)
            assert corpus.label[rows].tolist() == data["label"][kept].tolist()
            for modality, array in written.items():
                got = corpus.features(modality, rows)
                assert got.dtype == np.float32
                np.testing.assert_array_equal(got, array[kept].astype(np.float32))
                assert corpus.lengths[modality][rows].tolist() == [lengths[modality][i] for i in kept]
