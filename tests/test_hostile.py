"""Hostile and broken input: every way to be wrong ends in one error that names the file, and leaves nothing behind."""

import io
import json
import os
import pickle
import random
import re
import resource
import shutil
import struct
import tempfile
import time
import tracemalloc
import zipfile
from contextlib import contextmanager, nullcontext
from pathlib import Path

import numpy as np
import pytest
from amh import random_data, random_splits, rewrite, write_tree
from forms import SIZES, made_up, write_mmsa, write_mult, write_plain
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_folds import write_emo_superb, write_emobox, write_s3prl
from test_formats import as_folder, hostile, put, truncate, with_objects

import mmer_core as mc
from mmer_core import store as writer
from mmer_core.formats import adapted

# ------------------------------------------------------------------------------------------ tiny corpora that are right

N = 40
FEATURES = {"text": "roberta-FRA", "video": "clip-FRA", "audio": "hubert-FRA"}


def amh_tree(root):
    return write_tree(root / "tree", random_data(n=N), random_splits(n=N)), {}


def amh_vectors(root):
    return write_tree(root / "tree", random_data(n=N), random_splits(n=N), "vectors"), {}


def plain(root, npz=False):
    data = made_up(N)
    data.fold = [1 + i % 4 for i in range(N)]
    data.dialogue, data.start, data.end = [i.rpartition("_")[0] for i in data.ids], [0.5] * N, [2.5] * N
    columns = ("text", "speaker", "session", "dialogue", "start", "end", "fold")
    return write_plain(root / "plain", data, columns, npz=npz), {}


def archives(root):
    return plain(root, npz=True)


def merbench(root):
    folder, data = root / "bench", made_up(N)
    for m, model in FEATURES.items():
        (folder / "features" / model).mkdir(parents=True)
        for name, x in zip(data.ids, data.frames[m], strict=True):
            np.save(folder / "features" / model / f"{name}.npy", x)
    save_labels(folder, {name: {"emo": int(k), "val": -10} for name, k in zip(data.ids, data.label, strict=True)})
    return folder, FEATURES


def save_labels(folder, labels):
    np.savez(folder / "label.npz", whole_corpus=np.array(labels, object))


def mmsa(root):
    return write_mmsa(root / "mosi.pkl", made_up(N)), {}


def mult(root):
    return write_mult(root / "iemocap.pkl", made_up(N)), {}


def store(root):
    return mc.open_corpus(amh_tree(root)[0], root / "made").path, {}


def plain_store(root):
    return mc.open_corpus(plain(root)[0], root / "made").path, {}


FORMATS = {
    **{"tree": amh_tree, "vectors": amh_vectors, "plain": plain, "npz": archives, "merbench": merbench},
    **{"mmsa": mmsa, "mult": mult, "store": store, "plain store": plain_store},
}


def partition(write, name):
    """A corpus, and a partition of it."""

    def build(root):
        path, _ = plain_store(root)
        return path, {"folds": write(root / name, mc.open_corpus(path))}

    return build


def ours(file, corpus):
    return mc.write_folds(corpus, corpus.folds, file)


PARTITIONS = {
    "folds.csv": partition(ours, "folds.csv"),
    "emobox": partition(lambda place, _: write_emobox(place, made_up(N)), "emobox"),
    "s3prl": partition(lambda place, _: write_s3prl(place, made_up(N)), "s3prl"),
    "superb": partition(lambda place, _: write_emo_superb(place, made_up(N)), "superb"),
}
EVERY = {**FORMATS, **PARTITIONS}


@pytest.mark.parametrize("kind", EVERY)
def test_what_is_right_opens(tmp_path, kind):
    path, options = EVERY[kind](tmp_path)
    corpus = mc.open_corpus(path, tmp_path / "stores" / "a", **options)
    assert len(corpus) == N and corpus.modalities == "tva"
    assert len(corpus.folds) == {"tree": 2, "vectors": 2, "store": 2, "merbench": 0, "mmsa": 1, "mult": 1}.get(
        kind, 5 if kind in ("emobox", "s3prl", "superb") else 4
    )


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("name", ["my own data", "été 感情 (1)", "a'b\"c;d,e%20&"])
def test_odd_names_of_folders_are_no_harm(tmp_path, kind, name):
    (tmp_path / name).mkdir()
    path, options = FORMATS[kind](tmp_path / name)
    assert len(mc.open_corpus(path, tmp_path / name / "the store", **options)) == N


@pytest.mark.parametrize("dtype", ["<f8", ">f4", ">f8", "<f2"])
@pytest.mark.parametrize("kind", ["tree", "vectors", "plain", "npz", "merbench", "mmsa", "mult"])
def test_other_floats_and_byte_orders_are_read(tmp_path, kind, dtype):
    path, options = FORMATS[kind](tmp_path)
    before = mc.open_corpus(path, tmp_path / "before", **options)
    if path.is_file():
        pickled(lambda x: x.astype(dtype), lambda x: isinstance(x, np.ndarray) and x.ndim == 3 and x.shape[2] > 2)(path)
    for file in path.rglob("*.npy"):
        rewrite(file, lambda x: x.astype(dtype) if x.dtype.kind == "f" else x.astype(x.dtype.newbyteorder(dtype[0])))
    for file in path.glob("*.npz") if kind == "npz" else ():
        archive(**{name: x.astype(dtype) for name, x in np.load(file).items()})(file)
    after = mc.open_corpus(path, tmp_path / "after", **options)
    for m in SIZES:
        wanted = before.features(m, range(N)).astype(dtype).astype(np.float32)
        np.testing.assert_array_equal(after.features(m, range(N)), wanted)
        assert after.lengths[m].tolist() == before.lengths[m].tolist()


# ------------------------------------------------------------------------------------------ ways to damage


def at(name, *changes):
    """Change one file, or all that a pattern fits."""

    def damage(root):
        files = [root] if name == "." else sorted(root.glob(name)) or [root / name]
        for file in files:
            for change in changes:
                change(file)

    return damage


def text(content, encoding="utf-8"):
    return lambda file: file.write_bytes(content if isinstance(content, bytes) else content.encode(encoding))


def sub(old, new, count=1, encoding="utf-8"):
    """Replace in a text; the pattern has to be there."""

    def change(file):
        before = file.read_text(encoding="utf-8")
        after = re.sub(old, new, before, count=count, flags=re.MULTILINE)
        assert before != after
        file.write_bytes(after.encode(encoding))

    return change


def array(change):
    return lambda file: rewrite(file, change)


def archive(**arrays):
    return lambda file: np.savez(file, **arrays)


def spoilt(change):
    """Change the sixth array of an archive; None takes it out."""

    def damage(file):
        whole = dict(np.load(file))
        name = list(whole)[5]
        whole[name] = change(whole[name])
        np.savez(file, **{k: x for k, x in whole.items() if x is not None})

    return damage


def pickled(change, which=None, part="valid", key=None):
    """Change an array of a pickle: that of a key in a part (None: the whole), or all for which `which` is true."""

    def damage(file):
        data = pickle.loads(file.read_bytes())
        if which:
            data = {p: {k: change(x) if which(x) else x for k, x in d.items()} for p, d in data.items()}
        elif key is None:
            data = change(data)
        else:
            x = np.array(data[part][key])
            changed = change(x)
            data[part][key] = x if changed is None else changed
        file.write_bytes(pickle.dumps(data, protocol=4))

    return damage


def without(part, key=None):
    def change(data):
        del (data[part] if key else data)[key or part]
        return data

    return pickled(change)


def noted(**changes):
    """Change what corpus.json notes; None takes it out, a function gets what was noted."""

    def change(file):
        data = json.loads(file.read_text())
        for name, value in changes.items():
            data[name] = value(data[name]) if callable(value) else value
        file.write_text(json.dumps({k: x for k, x in data.items() if x is not ...}))

    return at("corpus.json", change)


def stored(name, change):
    """Change an array of a store, and what corpus.json says of it."""

    def damage(root):
        rewrite(root / f"{name}.npy", change)
        x = np.load(root / f"{name}.npy")
        noted(arrays=lambda known: {**known, name: [list(x.shape), str(x.dtype)]})(root)

    return damage


def npy(shape, descr="<f4", data=b"", fortran=False):
    """An .npy file that says anything."""
    head = f"{{'descr': {descr!r}, 'fortran_order': {fortran}, 'shape': {shape!r}, }}".encode()
    head += b" " * (-(len(head) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head + data


def member(content, kind=zipfile.ZIP_DEFLATED, says=None, name=6):
    """Put bytes in the place of an array of an archive; `says`: the size that the zip claims they have."""

    def change(file):
        with zipfile.ZipFile(file) as z:
            files = {i.filename: z.read(i) for i in z.infolist()}
        target = name if isinstance(name, str) else list(files)[name]
        with zipfile.ZipFile(file, "w") as z:
            for other, data in files.items():
                if other != target:
                    z.writestr(other, data)
            z.writestr(target, content, kind)
            known = z.getinfo(target)
            sizes = struct.pack("<LLL", known.CRC, known.compress_size, known.file_size)
        if says is not None:
            lie = struct.pack("<LLL", known.CRC, known.compress_size, says)
            file.write_bytes(file.read_bytes().replace(sizes, lie))

    return change


def bomb(megabytes, says=None, kind=zipfile.ZIP_DEFLATED, name=6, head=b""):
    """A member that unpacks to so many megabytes."""
    return lambda file: member(head + bytes(megabytes * 2**20), kind, says, name)(file)


def loop(file):
    if file.is_dir():
        shutil.rmtree(file)
    file.unlink(missing_ok=True)
    file.symlink_to(file.name)


def as_pipe(file):
    file.unlink()
    os.mkfifo(file)


def endless(file):
    file.unlink()
    file.symlink_to("/dev/zero")


def sparse(file):
    with open(file, "wb") as f:
        f.truncate(2**36)


def gone(file):
    shutil.rmtree(file) if file.is_dir() else file.unlink()


def as_file(folder):
    shutil.rmtree(folder)
    folder.write_text("no folder")


def doubled(file):
    file.write_bytes(file.read_bytes() * 2)


def first(x):
    return x[:-1]


def laughs(depth, wide, leaf=0.0):
    """Lists of references to one list: a few bytes that stand for wide ** depth numbers."""
    x = leaf
    for _ in range(depth):
        x = [x] * wide
    return x


def shared(file, value):
    """A pickle of three parts in which audio is `value`."""
    part = {"audio": value, "text": value, "vision": value, "regression_labels": [0.0, 1.0]}
    file.write_bytes(pickle.dumps({"train": part, "valid": part, "test": part}, protocol=4))


EDGE = "Ses01F_impro01"
UTTERANCE = "Ses02F_impro02_?001"

# Format: what is wrong with it -> the damage, and what the message has to say (of file, expectation and finding).
IN_ORDER = ["csv line 2", "the first before the second"]
WRONG = {
    # ---- AMH trees
    "tree: a file is missing": (at("fold02/dev_video.npy", gone), ["fold02/dev_video.npy", "a file", "none"]),
    "tree: a file is a folder": (at("fold02/dev_video.npy", as_folder), ["fold02/dev_video.npy", "a file"]),
    "tree: a file is empty": (at("fold02/dev_label.npy", text("")), ["fold02/dev_label.npy", "whole .npy"]),
    "tree: a file is truncated": (at("fold01/train_video.npy", truncate), ["fold01/train_video.npy", "whole .npy"]),
    "tree: a file goes on behind its end": (at("fold01/dev_label.npy", doubled), ["fold01/dev_label.npy", "bytes"]),
    "tree: a file links to itself": (at("fold01/dev_label.npy", loop), ["fold01/dev_label.npy", "none"]),
    "tree: a file is a pipe": (at("fold01/dev_label.npy", as_pipe), ["fold01/dev_label.npy", "none"]),
    "tree: an array of objects": (at("fold01/dev_label.npy", with_objects), ["fold01/dev_label.npy", "numbers"]),
    "tree: an array of records": (
        at("fold01/dev_label.npy", array(lambda x: x.astype([("a", "i4"), ("b", "i4")]))),
        ["dev_label.npy", "whole numbers [8]", "a"],
    ),
    "tree: an array larger than any disk": (at("fold01/dev_video.npy", text(npy((8, 2**40, 3)))), ["dev_video.npy"]),
    "tree: an array with negative sizes": (at("fold01/dev_video.npy", text(npy((8, -2, -2)))), ["dev_video.npy"]),
    "tree: a head that is no head": (at("fold01/dev_video.npy", text(b"\x93NUMPY\x01\x00\xff\xff")), ["dev_video.npy"]),
    "tree: a head that is code": (
        at("fold01/dev_video.npy", text(npy("__import__('os').system('touch x')"))),
        ["dev_video.npy", "whole .npy"],
    ),
    "tree: NaN": (at("fold01/dev_video.npy", array(put(np.nan))), ["dev_video.npy", "finite", "row 0"]),
    "tree: infinity": (at("fold01/dev_audio_mfcc.npy", array(put(np.inf))), ["dev_audio_mfcc.npy", "finite"]),
    "tree: float64 beyond float32": (
        at("fold01/dev_video.npy", array(lambda x: x.astype(float) * 1e300)),
        ["dev_video.npy", "finite"],
    ),
    "tree: a negative length": (at("fold01/dev_audio_seqN.npy", array(put(-1))), ["seqN.npy", "from 0 on", "-1"]),
    "tree: fractions of lengths": (
        at("fold01/dev_audio_seqN.npy", array(lambda x: x + 0.5)),
        ["dev_audio_seqN.npy", "whole numbers [8]", "float64"],
    ),
    "tree: a label out of range": (at("fold01/dev_label.npy", array(put(1000))), ["dev_label.npy", "0..999", "1000"]),
    "tree: a label without a name": (at("fold*/dev_label.npy", array(put(3))), ["classes.json", "4 or more"]),
    "tree: labels of one class": (at("fold*/*_label.npy", array(lambda x: 0 * x + 1)), ["tree", "two classes", "glad"]),
    "tree: fewer labels": (at("fold01/dev_label.npy", array(first)), ["fold01/dev_", "N as in the labels"]),
    "tree: a token without vector": (at("fold01/dev_nlp_trans.npy", array(put(30))), ["nlp_trans.npy", "0..29", "30"]),
    "tree: a part in two": (
        lambda root: [shutil.copy(f, f.with_name(f.name.replace("test", "dev"))) for f in root.glob("fold01/test_*")],
        ["tree fold 1", "no utterance in both dev and test", "found 8"],
    ),
    "tree: a fold is a file": (at("fold02", as_file), ["fold02", "the folder of a fold", "a file"]),
    "tree: a fold links to itself": (at("fold02", loop), ["fold02", "the folder of a fold"]),
    "tree: a fold is empty": (at("fold02", gone, Path.mkdir), ["fold02/W_embedding.npy", "none"]),
    "tree: no fold has a number": (
        lambda root: [f.rename(root / f"fold-{f.name}") for f in list(root.glob("fold*"))],
        ["tree", "fold01"],
    ),
    "tree: a fold twice": (at("fold02", lambda f: f.rename(f.with_name("fold1"))), ["tree", "fold01, fold1"]),
    "tree: classes in latin-1": (
        at("fold01/classes.json", text('["ärger", "b", "c"]', "latin-1")),
        ["classes.json line 1", "UTF-8", "Latin-1"],
    ),
    "tree: a class beyond Unicode": (
        lambda root: at("fold*/classes.json", text('["\\ud800", "b", "c"]'))(root),
        ["valid Unicode", "ud800"],
    ),
    "tree: classes in brackets without end": (
        at("fold01/classes.json", text("[" * 100_000)),
        ["classes.json", "a list of 3", "RecursionError"],
    ),
    "tree: a dictionary that runs code": (
        lambda root: (root / "fold01/dic.pkl").write_bytes(hostile(root.parent / "executed")["os.system"]),
        ["dic.pkl", "system"],
    ),
    "tree: a dictionary of enormous numbers": (
        at("fold01/dic.pkl", text(pickle.dumps({"dog": 2**100_000}))),
        ["dic.pkl", "number"],
    ),
    "tree: a dictionary of words beyond the vocabulary": (
        at("fold01/dic.pkl", text(pickle.dumps({"dog": 30}))),
        ["dic.pkl", "below 30", "'dog': 30"],
    ),
    "vectors: NaN": (at("fold02/test_text.npy", array(put(np.nan))), ["test_text.npy", "finite", "row 0"]),
    "vectors: another size": (at("fold02/test_text.npy", array(lambda x: x[:, 1:])), ["test_text.npy", "6, 5"]),
    "vectors: one array less": (at("fold02/test_text.npy", gone), ["test_text.npy", "none"]),
    # ---- plain folders
    "plain: an empty table": (at("utterances.csv", text("")), ["utterances.csv", "id, label", "nothing"]),
    "plain: a head alone": (at("utterances.csv", text("id,label\n")), ["utterances.csv", "one utterance", "none"]),
    "plain: no column of labels": (at("utterances.csv", sub("label", "labels")), ["utterances.csv", "id, label"]),
    "plain: two columns of labels": (at("utterances.csv", sub("text", "label")), ["utterances.csv", "id, label"]),
    "plain: separated by ;": (at("utterances.csv", sub(",", ";", 0)), ["utterances.csv", "';'", "use commas"]),
    "plain: separated by tabs": (at("utterances.csv", sub(",", "\t", 0)), ["utterances.csv", "id, label"]),
    "plain: in latin-1": (
        at("utterances.csv", sub("w1", "é", 1, "latin-1")),
        ["utterances.csv line", "UTF-8", "0xe9", "Latin-1", "save the file"],
    ),
    "plain: in UTF-16": (at("utterances.csv", sub("w1", "é", 1, "utf-16")), ["utterances.csv line 1", "UTF-16"]),
    "plain: a quote without end": (at("utterances.csv", sub(",w", ',"w')), ["utterances.csv line", "table"]),
    "plain: a column too many": (at("utterances.csv", sub("$", ",more", 3)), ["utterances.csv", "columns"]),
    "plain: a row cut short": (at("utterances.csv", lambda f: truncate(f, 9)), ["utterances.csv line 41", "columns"]),
    "plain: a text as long as a book": (
        at("utterances.csv", sub(",w", f",{'w' * 140_000}")),
        ["utterances.csv line", "field limit"],
    ),
    "plain: an utterance twice": (
        at("utterances.csv", lambda f: f.write_text(f.read_text() + f.read_text().splitlines()[2] + "\n")),
        ["utterances.csv line 42", "an id of its own", "line 3"],
    ),
    "plain: an id in another spelling": (at("utterances.csv", sub("^Ses", "./Ses")), ["csv line 2", "names a file"]),
    "plain: an id that leaves the folder": (at("utterances.csv", sub("^Ses", "../Ses")), ["csv line 2", "in the f"]),
    "plain: an id from the root": (at("utterances.csv", sub("^Ses", "/Ses")), ["csv line 2", "in the folder"]),
    "plain: an id of another drive": (at("utterances.csv", sub("^Ses", "C:Ses")), ["csv line 2", "in the folder"]),
    "plain: an id of zero bytes": (at("utterances.csv", sub("^Ses", "\0Ses")), ["csv line 2"]),
    "plain: an id longer than names may be": (
        at("utterances.csv", sub("^Ses", "S" * 300)),
        ["csv line 2", "a file in", "none (1 such; skip=True"],
    ),
    "plain: an id without a file": (at("utterances.csv", sub("^Ses", "Sos")), ["csv line 2", "a file in", "skip=True"]),
    "plain: no label": (at("utterances.csv", sub(f"({EDGE}_.000),\\w+", r"\1,")), ["csv line 2", "a label", "skip"]),
    "plain: a label that nobody named": (
        at("utterances.csv", sub(f"({EDGE}_.000),\\w+", r"\1,odd")),
        ["csv line 2", "a label of calm, cross", "'odd'"],
    ),
    "plain: labels of one class": (
        at(".", lambda f: sub(r"(_.\d+),\w+", r"\1,calm", 0)(f / "utterances.csv"), lambda f: gone(f / "corpus.toml")),
        ["utterances.csv", "two classes", "calm"],
    ),
    "plain: labels of one class among several": (
        at("utterances.csv", sub(r"(_.\d+),\w+", r"\1,calm", 0)),
        ["plain", "two classes", "calm"],
    ),
    "plain: numbers of labels from 1": (
        at(
            ".",
            lambda f: sub(r"(_.\d+),\w+", r"\1,3", 0)(f / "utterances.csv"),
            lambda f: sub("^.*", 'classes = ["a", "b", "c"]')(f / "corpus.toml"),
        ),
        ["utterances.csv line 2", "a label of a, b, c", "'3'"],
    ),
    "plain: a fold that is no number": (at("utterances.csv", sub("2.5,1$", "2.5,one")), ["csv line 2", "fold 'one'"]),
    "plain: a negative fold": (at("utterances.csv", sub("2.5,1$", "2.5,-1")), ["csv line 2", "number of a fold"]),
    "plain: half a fold": (at("utterances.csv", sub("2.5,1$", "2.5,1.5")), ["csv line 2", "number of a fold"]),
    "plain: two folds": (at("utterances.csv", sub("2.5,.$", "2.5,1", 10), sub("2.5,[2-4]$", "2.5,2", 0)), ["fold 1"]),
    "plain: a part that is none": (at("utterances.csv", sub("fold", "part")), ["csv line 2", "train, dev, test"]),
    "plain: a start that is no number": (at("utterances.csv", sub(",0.5,", ",soon,")), ["csv line 2", "seconds"]),
    "plain: a start behind its end": (at("utterances.csv", sub(",0.5,2.5,", ",2.5,0.5,")), IN_ORDER),
    "plain: an end at its start": (at("utterances.csv", sub(",0.5,2.5,", ",0.5,0.5,")), IN_ORDER),
    "plain: a start before 0": (at("utterances.csv", sub(",0.5,2.5,", ",-1,2.5,")), IN_ORDER),
    "plain: an end that never comes": (at("utterances.csv", sub(",0.5,2.5,", ",0.5,inf,")), IN_ORDER),
    "plain: a start that is NaN": (at("utterances.csv", sub(",0.5,2.5,", ",nan,2.5,")), IN_ORDER),
    "plain: a time in minutes": (at("utterances.csv", sub(",0.5,2.5,", ",0:01,2.5,")), IN_ORDER),
    "plain: the table is a folder": (at("utterances.csv", as_folder), ["utterances.csv", "a table", "folder"]),
    "plain: the table is a pipe": (at("utterances.csv", as_pipe), ["utterances.csv", "file"]),
    "plain: the table never ends": (at("utterances.csv", endless), ["utterances.csv", "file"]),
    "plain: a table bomb of 64 GB": (at("utterances.csv", sparse), ["utterances.csv", "bytes"]),
    "plain: the table links to itself": (at("utterances.csv", loop), ["plain", "utterances.csv", "none of them"]),
    "plain: no features": (lambda root: [gone(root / m) for m in SIZES], ["plain", "text, video or audio"]),
    "plain: features that link to themselves": (lambda root: [loop(root / m) for m in SIZES], ["plain", "no features"]),
    "plain: features in pickles": (
        at(f"audio/{UTTERANCE}.npy", text(pickle.dumps([1.0]))),
        ["audio/Ses02F", "a whole .npy"],
    ),
    "plain: a file is truncated": (at(f"audio/{UTTERANCE}.npy", truncate), ["audio/Ses02F", "a whole .npy"]),
    "plain: a file goes on behind its end": (at(f"audio/{UTTERANCE}.npy", doubled), ["audio/Ses02F", "bytes"]),
    "plain: objects": (at(f"audio/{UTTERANCE}.npy", with_objects), ["audio/Ses02F", "numbers", "bject"]),
    "plain: texts": (at(f"audio/{UTTERANCE}.npy", array(lambda x: x.astype(str))), ["audio/Ses02F", "numbers [T, D]"]),
    "plain: truths": (at(f"audio/{UTTERANCE}.npy", array(lambda x: x > 0)), ["audio/Ses02F", "numbers [T, D]", "bool"]),
    "plain: complex numbers": (at(f"audio/{UTTERANCE}.npy", array(lambda x: x + 1j)), ["audio/Ses02F", "complex"]),
    "plain: an axis more": (at(f"audio/{UTTERANCE}.npy", array(lambda x: x[None])), ["audio/Ses02F", "[T, D]"]),
    "plain: no axis": (at(f"audio/{UTTERANCE}.npy", array(lambda x: x[0, 0])), ["audio/Ses02F", "[T, D]", "[]"]),
    "plain: no features in it": (at(f"audio/{UTTERANCE}.npy", array(lambda x: x[:, :0])), ["audio/Ses02F", "[T, D]"]),
    "plain: fewer features": (at(f"audio/{UTTERANCE}.npy", array(lambda x: x[:, :2])), ["audio/Ses02F", "4 features"]),
    "plain: NaN": (at(f"audio/{UTTERANCE}.npy", array(put(np.nan))), ["audio/Ses02F", "finite", "NaN"]),
    "plain: infinity": (at(f"video/{UTTERANCE}.npy", array(put(-np.inf))), ["video/Ses02F", "finite"]),
    "plain: a bomb of frames": (
        at(f"audio/{UTTERANCE}.npy", lambda f: (text(npy((2**26, 4)))(f), os.truncate(f, 2**30 + 128))),
        ["audio/Ses02F", "at most"],
    ),
    "plain: a bomb of stated lengths": (
        at("corpus.toml", text("[lengths]\naudio = 999999999\n")),
        ["corpus.toml", "lengths", "999999999"],
    ),
    "plain: settings that are none": (at("corpus.toml", text("= 3")), ["corpus.toml", "settings of a corpus"]),
    "plain: an unknown setting": (at("corpus.toml", text("clases = ['a']")), ["corpus.toml", "clases", "classes"]),
    "plain: a setting of another type": (at("corpus.toml", text("name = 3")), ["corpus.toml", "name: a", "3"]),
    "plain: a name that leads elsewhere": (at("corpus.toml", text('name = ".."')), ["corpus.toml", "name", "'..'"]),
    "plain: a name of zero bytes": (at("corpus.toml", text(r'name = "\u0000"')), ["corpus.toml", "name"]),
    "plain: a number of 5000 digits": (at("corpus.toml", text(f"name = 0x{'f' * 5000}")), ["corpus.toml", "digits"]),
    "plain: a class twice": (at("corpus.toml", text('classes = ["a", "a"]')), ["corpus.toml", "different names"]),
    "plain: a negative length": (at("corpus.toml", text("[lengths]\naudio = -1")), ["corpus.toml", "above 0", "-1"]),
    "plain: half a length": (at("corpus.toml", text("[lengths]\naudio = 1.5")), ["corpus.toml", "whole numbers"]),
    "plain: a rate of nan": (at("corpus.toml", text("[rates]\naudio = nan")), ["corpus.toml", "rates", "nan"]),
    "plain: settings in cp1252": (at("corpus.toml", text('name = "\x92"', "latin-1")), ["toml line 1", "cp1252"]),
    # ---- archives
    "npz: no zip": (at("audio.npz", text("no zip")), ["audio.npz", "an archive of arrays"]),
    "npz: empty": (at("audio.npz", text("")), ["audio.npz", "an archive of arrays"]),
    "npz: truncated": (at("audio.npz", truncate), ["audio.npz", "an archive of arrays"]),
    "npz: an utterance is missing": (at("audio.npz", spoilt(lambda x: None)), ["csv line", "audio.npz", "skip=True"]),
    "npz: NaN": (at("audio.npz", spoilt(lambda x: x * np.nan)), ["audio.npz/Ses", "finite"]),
    "npz: objects": (at("audio.npz", spoilt(lambda x: x.astype(object))), ["audio.npz/Ses", "numbers"]),
    "npz: fewer features": (at("audio.npz", spoilt(lambda x: x[:, :2])), ["audio.npz/Ses", "4 features"]),
    "npz: no array in it": (at("audio.npz", member(b"no array")), ["audio.npz/Ses", "a whole array"]),
    "npz: half an array": (at("audio.npz", member(npy((9, 4)))), ["audio.npz/Ses", "as its head says"]),
    "npz: more than an array": (at("audio.npz", member(npy((1, 4)) + bytes(99))), ["audio.npz/Ses", "its head"]),
    "npz: sizes whose product overflows": (at("audio.npz", member(npy((2**32, 2**32)))), ["audio.npz/Ses"]),
    "npz: negative sizes": (at("audio.npz", member(npy((-2, -4), data=bytes(32)))), ["audio.npz/Ses"]),
    "npz: an array twice": (at("audio.npz", lambda f: twice(f)), ["audio.npz", "twice"]),
    "npz: a wrong checksum": (at("audio.npz", lambda f: flip_stored(f)), ["audio.npz/Ses", "whole array"]),
    "npz: encrypted": (at("audio.npz", lambda f: encrypted(f)), ["audio.npz/Ses", "whole array"]),
    "npz: a bomb": (at("audio.npz", bomb(300, head=npy((2**30, 4)))), ["audio.npz/Ses", "at most"]),
    "npz: a bomb that says it is small": (
        at("audio.npz", bomb(300, says=208, head=npy((5, 4)))),
        ["audio.npz/Ses", "array"],
    ),
    "npz: a bomb in bzip2": (
        at("audio.npz", bomb(300, says=208, kind=zipfile.ZIP_BZIP2, head=npy((5, 4)))),
        ["audio.npz/Ses", "stored or deflated"],
    ),
    "npz: a bomb of frames that are not there": (at("audio.npz", member(npy((2**24, 4)))), ["audio.npz/Ses"]),
    # ---- MERBench
    "merbench: no labels": (at("label.npz", gone), ["bench", "a plain folder", "another format"]),
    "merbench: labels are no zip": (at("label.npz", text("none")), ["label.npz", "an archive of arrays"]),
    "merbench: labels of nobody": (at("label.npz", archive(other=np.zeros(3))), ["label.npz", "one utterance"]),
    "merbench: labels are numbers": (at("label.npz", archive(whole_corpus=np.zeros(3))), ["label.npz", "MERBench's"]),
    "merbench: labels without emo": (lambda r: save_labels(r, {"a": {"val": 1}}), ["label.npz", "'emo'"]),
    "merbench: ids are numbers": (lambda r: save_labels(r, {1: {"emo": 1}, 2: {"emo": 0}}), ["label.npz"]),
    "merbench: an id leaves the folder": (
        lambda r: save_labels(r, {"../a": {"emo": 1}, "b": {"emo": 0}}),
        ["label.npz line 1", "in the folder", "'../a'"],
    ),
    "merbench: labels of utterances without features": (
        lambda r: save_labels(r, {"a": {"emo": 1}, "b": {"emo": 0}}),
        ["label.npz line 1", "a file in", "(2 such"],
    ),
    "merbench: labels that run code": (
        lambda r: member(objects(hostile(r.parent / "executed")["os.system"]), name="whole_corpus.npy")(
            r / "label.npz"
        ),
        ["label.npz", "system"],
    ),
    "merbench: a bomb of labels": (
        at("label.npz", bomb(300, name="whole_corpus.npy", head=npy((), "|O"))),
        ["label.npz"],
    ),
    "merbench: a bomb of labels that says it is small": (
        at("label.npz", bomb(300, says=300, name="whole_corpus.npy", head=npy((), "|O"))),
        ["label.npz"],
    ),
    "merbench: features that are not there": (at("features/clip-FRA", gone), ["bench", "'clip-FRA'", "hubert-FRA"]),
    "merbench: NaN": (at(f"features/clip-FRA/{UTTERANCE}.npy", array(put(np.nan))), ["clip-FRA/Ses02F", "finite"]),
    # ---- pickles of MMSA and MulT
    "mmsa: empty": (text(""), ["mosi.pkl", "a dictionary of train, valid and test", "EOFError"]),
    "mmsa: truncated": (truncate, ["mosi.pkl", "a dictionary of train, valid and test"]),
    "mmsa: no pickle": (text("surely no pickle"), ["mosi.pkl", "a dictionary of train"]),
    "mmsa: a list": (text(pickle.dumps([1, 2])), ["mosi.pkl", "2 things in a row", "attention over time"]),
    "mmsa: a tuple of the conversation papers": (
        text(pickle.dumps(tuple({"Ses01F": [1]} for _ in range(9)), protocol=2)),
        ["mosi.pkl", "9 things in a row", "unaligned"],
    ),
    "mmsa: it runs code": (
        lambda file: file.write_bytes(hostile(file.parent / "executed")["nested getattr"]),
        ["mosi.pkl", "getattr"],
    ),
    "mmsa: it runs code at its end": (
        lambda file: file.write_bytes(
            file.read_bytes()[:-1] + hostile(file.parent / "executed")["os.system, protocol 0"][:-1] + b"."
        ),
        ["mosi.pkl", "system"],
    ),
    "mmsa: a bomb of stated bytes": (text(b"\x80\x05\x96" + struct.pack("<Q", 2**40) + b"."), ["mosi.pkl", "EOF"]),
    "mmsa: a bomb of lists in lists": (lambda f: shared(f, laughs(3, 2000)), ["mosi.pkl", "many times"]),
    "mmsa: a bomb of one array many times": (
        lambda f: shared(f, [np.zeros((100, 100))] * 100_000),
        ["mosi.pkl", "many times"],
    ),
    "mmsa: a bomb of one long text": (
        lambda f: shared(f, ["x" * 300_000, *map(str, range(100_000))]),
        ["mosi.pkl train", "an array of numbers"],
    ),
    "mmsa: lists without end": (text(b"\x80\x04" + b"]" * 100_000 + b"a" * 99_999 + b"."), ["mosi.pkl"]),
    "mmsa: a list that holds itself": (text(b"\x80\x04]\x94h\x00a."), ["mosi.pkl"]),
    "mmsa: no part to test": (without("test"), ["mosi.pkl", "no test"]),
    "mmsa: a part is a list": (pickled(lambda d: {**d, "test": []}), ["mosi.pkl", "no test"]),
    "mmsa: one modality less in a part": (without("valid", "audio"), ["mosi.pkl dev", "sizes as in train"]),
    "mmsa: no labels": (without("valid", "regression_labels"), ["mosi.pkl", "regression_labels", "none of them"]),
    "mmsa: an empty part": (
        pickled(lambda d: {**d, "test": {k: x[:0] for k, x in d["test"].items()}}),
        ["fold 1 test", "at least one utterance"],
    ),
    "mmsa: NaN": (pickled(put(np.nan), key="vision"), ["Ses0", "finite", "NaN"]),
    "mmsa: infinity": (pickled(put(np.inf), key="audio"), ["Ses0", "finite"]),
    "mmsa: an axis less": (pickled(lambda x: x[:, 0], key="audio"), ["dev audio", "[N, T, D]", "one vector an utt"]),
    "mmsa: other features": (pickled(lambda x: x[:, :, :2], key="audio"), ["dev", "sizes as in train"]),
    "mmsa: texts as features": (pickled(lambda x: x.astype(str), key="audio"), ["dev audio", "an array of numbers"]),
    "mmsa: lists of other lengths": (
        pickled(lambda d: {**d, "valid": {**d["valid"], "audio": [[[1.0]], [[1.0], [2.0]]] * 4}}),
        ["dev audio", "an array of numbers"],
    ),
    "mmsa: one utterance less": (pickled(first, key="vision"), ["mosi.pkl dev vision_lengths", "7 whole numbers"]),
    "mmsa: one label less": (pickled(first, key="regression_labels"), ["dev regression_labels", "8 finite", "[7]"]),
    "mmsa: one id less": (pickled(first, key="id"), ["mosi.pkl", "id", "8 of them"]),
    "mmsa: one text less": (pickled(first, key="raw_text"), ["mosi.pkl", "raw_text", "8 of them"]),
    "mmsa: a mask of fewer utterances": (pickled(first, key="text_bert"), ["dev text_bert", "8"]),
    "mmsa: one length less": (pickled(first, key="audio_lengths"), ["dev audio_lengths", "8 whole numbers"]),
    "mmsa: a negative length": (pickled(put(-1), key="audio_lengths"), ["dev audio_lengths", "0..9"]),
    "mmsa: a length one too long": (pickled(put(10), key="audio_lengths"), ["dev audio_lengths", "0..9", "10"]),
    "mmsa: half a length": (pickled(lambda x: x + 0.5, key="audio_lengths"), ["dev audio_lengths", "whole numbers"]),
    "mmsa: a score of NaN": (pickled(put(np.nan), key="regression_labels"), ["dev regression_labels", "finite"]),
    "mmsa: scores of two columns": (
        pickled(lambda x: np.stack([x, x], 1), key="regression_labels"),
        ["dev regression_labels", "one score an utterance"],
    ),
    "mmsa: scores of one class": (
        pickled(lambda d: {p: {**x, "regression_labels": 0 * x["regression_labels"]} for p, x in d.items()}),
        ["mosi.pkl", "two classes", "'0'"],
    ),
    "mmsa: an id twice": (pickled(lambda x: np.append(x[:-1], x[0]), key="id"), ["dev id", "of its own", "twice"]),
    "mmsa: an id in two parts": (
        pickled(lambda d: {**d, "test": {**d["test"], "id": d["valid"]["id"]}}),
        ["an id of its own", "another one with it"],
    ),
    "mmsa: an id beyond Unicode": (
        pickled(lambda d: {**d, "test": {**d["test"], "id": [f"\ud800$_${i}" for i in range(8)]}}),
        ["valid Unicode", "ud800"],
    ),
    "mult: flags that are none": (
        pickled(lambda d: {p: {**x, "labels": np.full((len(x["labels"]), 4, 2), 0.5)} for p, x in d.items()}),
        ["labels", "4 pairs of flags"],
    ),
    "mult: two flags for an utterance": (
        pickled(lambda d: {p: {**x, "labels": both(len(x["labels"]))} for p, x in d.items()}),
        ["train labels", "one positive flag", "skip=True"],
    ),
    "mult: labels of one class": (
        pickled(lambda d: {p: {**x, "labels": both(len(x["labels"]), 1)} for p, x in d.items()}),
        ["iemocap.pkl", "two classes", "neutral"],
    ),
    "mult: a label alone": (pickled(lambda x: x.sum(), key="labels"), ["dev labels", "8 finite", "[]"]),
    "mult: labels of another number": (pickled(first, key="labels"), ["dev labels", "8 finite"]),
    "mult: an object array": (
        pickled(lambda x: np.array([None] * len(x), object), key="audio"),
        ["dev audio", "an array of numbers"],
    ),
    # ---- stores
    "store: no description": (at("corpus.json", gone), ["made", "none of them"]),
    "store: an empty description": (at("corpus.json", text("")), ["corpus.json", "the description of a store"]),
    "store: a description of another format": (noted(format=2), ["corpus.json", "format 1", "import the corpus again"]),
    "store: a description that is a list": (at("corpus.json", text("[]")), ["corpus.json", "format 1"]),
    "store: a description without ids": (noted(ids=...), ["corpus.json", "one without ids"]),
    "store: ids that are numbers": (noted(ids=list(range(N))), ["corpus.json", "ids: a list of texts"]),
    "store: one id less": (noted(ids=lambda x: x[1:]), ["corpus.json", "40 utterances"]),
    "store: a name that leads elsewhere": (noted(name="../x"), ["corpus.json", "name"]),
    "store: a name beyond Unicode": (noted(name="\ud800"), ["corpus.json", "valid Unicode"]),
    "store: a fingerprint that leads elsewhere": (noted(fingerprint="../../x"), ["corpus.json", "fingerprint"]),
    "store: a class twice": (noted(classes=["a", "a", "b"]), ["corpus.json", "different names"]),
    "store: a fold of no number": (noted(dropped={"²": 1}), ["corpus.json", "dropped"]),
    "store: folds that are not there": (noted(folds=[1, 2, 3]), ["audio_scale.npy", "[3, 2, 2]", "[2, 2, 2]"]),
    "store: an array that is not there": (at("video.npy", gone), ["video.npy", "a file"]),
    "store: an array of an odd name": (noted(arrays=lambda x: {**x, "a" * 300: [[1], "int64"]}), ["a file", "none"]),
    "store: an array cut short": (at("video.npy", truncate), ["video.npy", "whole .npy"]),
    "store: an array of another shape": (at("video.npy", array(first)), ["video.npy", "[40, 4, 3]", "[39, 4, 3]"]),
    "store: frames without axes": (stored("video", lambda x: x[:, 0, 0]), ["corpus.json", "video"]),
    "store: frames of whole numbers": (stored("audio", lambda x: x.astype(int)), ["corpus.json", "audio", "float"]),
    "store: tokens without vectors": (stored("tokens", put(30)), ["tokens.npy", "token ids in 0..29", "30"]),
    "store: negative tokens": (stored("tokens", put(-1)), ["tokens.npy", "token ids in 0..29", "-1"]),
    "store: a vector of NaN": (stored("embedding", put(np.nan)), ["embedding.npy", "finite"]),
    "store: a scale of NaN": (stored("audio_scale", put(np.nan)), ["audio_scale.npy", "finite"]),
    "store: scales of fewer folds": (stored("audio_scale", first), ["audio_scale.npy", "[2, 2, 2]"]),
    "store: a label out of range": (stored("label", put(3)), ["label.npy", "0..2", "3"]),
    "store: a length out of range": (stored("length_video", put(5)), ["length_video.npy", "1..4", "5"]),
    "store: folds are no zip": (at("folds.npz", text("none")), ["folds.npz", "an archive of arrays"]),
    "store: folds of objects": (
        lambda root: folds_of(root, {"1_test": np.array([None], object)}),
        ["folds.npz/1_test.npy", "numbers"],
    ),
    "store: rows of folds are fractions": (
        lambda r: folds_of(r, {"1_test": np.array([0.5])}),
        ["folds.npz fold 1 test"],
    ),
    "store: rows of folds are one number": (
        lambda r: folds_of(r, {"1_test": np.array(3)}),
        ["fold 1 test", "int64 []"],
    ),
    "store: an empty part": (lambda r: folds_of(r, {"1_test": np.zeros(0, int)}), ["fold 1 test", "one utterance"]),
    "store: an overlapping fold": (lambda r: folds_of(r, {"1_test": np.arange(N)}), ["fold 1", "in both train and"]),
    "store: a bomb of folds": (at("folds.npz", bomb(300, name="1_test.npy", head=npy((2**26,), "<i8"))), ["folds.npz"]),
    "store: a bomb of folds in bzip2": (
        at("folds.npz", bomb(300, kind=zipfile.ZIP_BZIP2, says=999, name="1_test.npy", head=npy((9,), "<i8"))),
        ["folds.npz"],
    ),
    "plain store: speakers that are a number": (noted(speakers=3), ["corpus.json", "speakers"]),
    "plain store: speakers that are numbers": (noted(speakers=[1] * N), ["corpus.json", "speakers"]),
    "plain store: one speaker less": (noted(speakers=lambda x: x[1:]), ["corpus.json", "40 utterances"]),
    "plain store: rates that are texts": (noted(rates={"audio": "fast"}), ["corpus.json", "rates"]),
    "plain store: scores that are texts": (noted(scores=["much"] * N), ["corpus.json", "scores"]),
    "plain store: a synthetic one that cannot say so": (noted(synthetic="no"), ["corpus.json", "synthetic"]),
    # ---- partitions (`root` is what they lie in)
    "folds.csv: not there": (gone, ["folds.csv", "id, fold, part", "FileNotFoundError"]),
    "folds.csv: empty": (text(""), ["folds.csv", "id, fold, part", "nothing"]),
    "folds.csv: a head alone": (text("id,fold,part\n"), ["folds.csv", "utterances with their fold"]),
    "folds.csv: separated by ;": (sub(",", ";", 0), ["folds.csv", "use commas"]),
    "folds.csv: in latin-1": (sub("Ses", "é", 1, "latin-1"), ["folds.csv line 2", "UTF-8", "Latin-1"]),
    "folds.csv: half a fold": (sub(",1,", ",1.5,"), ["folds.csv line 2", "a number of a fold"]),
    "folds.csv: a part that is none": (sub("train", "valid"), ["folds.csv line", "'train', 'dev', 'test'", "'valid'"]),
    "folds.csv: an utterance twice": (sub("(^Ses.*,1,train\n)", r"\1\1"), ["csv line 3", "once in each fold", "again"]),
    "folds.csv: an utterance of nobody": (sub("^Ses", "Sos"), ["folds.csv", "1 others: 'Sos"]),
    "folds.csv: overlapping parts": (sub("$", "\nSes01F_impro01_M000,01,test", 1), ["csv line", "again in fold 1"]),
    "folds.csv: a part is missing": (sub("^.*,2,test\n", "", 0), ["folds.csv fold 2 test", "at least one utterance"]),
    "emobox: a fold is empty": (at("fold_2", gone, Path.mkdir), ["fold_2", "train"]),
    "emobox: a fold is a file": (at("fold_2", as_file), ["fold_2", "train"]),
    "emobox: a fold twice": (at("fold_2", lambda f: f.rename(f.with_name("fold_01"))), ["emobox", "fold_01"]),
    "emobox: a line is no JSON": (at("fold_2/*test*", sub("{", "")), ["iemocap_test_fold_2.jsonl", "JSON object"]),
    "emobox: a line is a number": (at("fold_2/*test*", text("3\n")), ["iemocap_test_fold_2.jsonl", '"key"']),
    "emobox: the whole is a number": (
        lambda root: (root / "fold_2/iemocap_test_fold_2.json").write_text("3"),
        ["iemocap_test_fold_2.json", '"key"'],
    ),
    "emobox: no key": (at("fold_2/*test*", sub("key", "kye")), ["iemocap_test_fold_2.jsonl", '"key"']),
    "emobox: an unknown part": (
        at("fold_2/*test*", lambda f: f.rename(str(f).replace("_test_", "_tset_"))),
        ["iemocap_tset_fold_2.jsonl", "train, valid or test"],
    ),
    "emobox: an utterance twice": (at("fold_2/*train*", doubled), ["emobox", "once"]),
    "emobox: overlapping parts": (
        lambda root: shutil.copy(root / "fold_2/iemocap_train_fold_2.jsonl", root / "fold_2/iemocap_test_fold_2.jsonl"),
        ["emobox", "fold 2", "no utterance in both"],
    ),
    "emobox: utterances of nobody": (at("*/*", sub("Ses", "Sos", 0)), ["emobox", "ids of plain", "40 others"]),
    "s3prl: a session is empty": (at("Session2", gone, Path.mkdir), ["Session2/train_meta_data.json", "FileNotFound"]),
    "s3prl: no list": (at("Session2/test*", text('{"meta_data": 3}')), ["test_meta_data.json", '"meta_data"']),
    "s3prl: no path": (at("Session2/test*", sub('"path"', '"pfad"')), ["test_meta_data.json", '"path"']),
    "s3prl: in UTF-16": (at("Session2/test*", sub("neu", "neü", 1, "utf-16")), ["test_meta_data.json", "UTF-16"]),
    "superb: a set that is none": (at("labels_consensus_2.csv", sub("Test", "Tset")), ["2.csv line", "'Tset'"]),
    "superb: no set": (at("labels_consensus_2.csv", sub("Split_Set", "Set")), ["2.csv", "Split_Set"]),
    "superb: a fold without rows": (at("labels_consensus_2.csv", sub("(?s)\n.*", "")), ["consensus_2.csv", "train"]),
}


def objects(pickle_):
    """An .npy file of one object, whose pickle may be anything."""
    return npy((), "|O", pickle_)


def both(n, flags=2):
    """MulT's labels of n utterances with so many positive flags each."""
    x = np.tile(np.array([1.0, 0.0]), (n, 4, 1))
    x[:, :flags] = [0.0, 1.0]
    return x


def twice(file):
    with zipfile.ZipFile(file, "a") as z, pytest.warns(UserWarning, match="Duplicate"):
        z.writestr(z.namelist()[3], npy((1, 4), data=bytes(16)))


def flip_stored(file):
    np.savez(file, **np.load(file))  # not compressed
    data = bytearray(file.read_bytes())
    data[data.index(b"\x93NUMPY") + 140] ^= 1
    file.write_bytes(data)


def encrypted(file):
    """The flag that says so in each head of the zip."""
    data = bytearray(file.read_bytes())
    for head, place in ((b"PK\x01\x02", 8), (b"PK\x03\x04", 6)):
        for found in re.finditer(head, bytes(data)):
            data[found.start() + place] |= 1
    file.write_bytes(data)


def folds_of(root, parts):
    np.savez(root / "folds.npz", **{**np.load(root / "folds.npz"), **parts})


@contextmanager
def little():
    """No more memory than 4 GB beyond what there is."""
    limits = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + 2**32, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)


@contextmanager
def small(megabytes=200):
    """Fails if Python asks for more memory than that."""
    tracemalloc.start()
    try:
        with little():
            yield
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < megabytes * 2**20


@pytest.mark.parametrize("wrong", WRONG)
def test_every_way_to_be_wrong_is_one_error_that_says_where_and_leaves_nothing(tmp_path, wrong):
    damage, fragments = WRONG[wrong]
    path, options = EVERY[wrong.partition(":")[0]](tmp_path)
    damage(options.get("folds", path))
    before = {p: p.lstat().st_mtime_ns for p in tmp_path.rglob("*")}
    with small() if "bomb" in wrong else nullcontext(), pytest.raises(mc.MmerError) as caught:
        mc.open_corpus(path, tmp_path / "stores" / "a", **options)
    message = ascii(str(caught.value))[1:-1]
    assert caught.type is mc.CorpusError, message
    assert "expected" in message and "found" in message and len(message) < 1000
    for fragment in fragments:
        assert fragment in message, message
    after = {p: p.lstat().st_mtime_ns for p in tmp_path.rglob("*") if p != tmp_path / "stores"}
    assert {p.name: t for p, t in after.items()} == {p.name: t for p, t in before.items()}  # and no "executed"


# ------------------------------------------------------------------------------------------ wrong settings

NOWHERE = ["~nobody-of-this-name/x", "a\0b", "x" * 300, "y/" * 3000, "loop", "loop/x", "file/x"]
SETTINGS = {
    "an unknown set": (dict(classes="iemocap5"), "iemocap4, iemocap6"),
    "no classes": (dict(classes={}), "two or more"),
    "one class": (dict(classes={"calm": "x", "glad": "x"}), "two or more"),
    "a class that is none": (dict(classes={"clam": "x", "glad": "y"}), "'clam'"),
    "edges without scores": (dict(classes=[0.5]), "has none"),
    "edges that are texts": (dict(classes=["low", "high"]), "numbers that rise"),
    "edges that are lists": (dict(classes=[[0.5]]), "numbers that rise"),
    "an edge beyond numbers": (dict(classes=[10**400]), "numbers that rise"),
    "too many folds": (dict(folds={"k": 99, "by": "speaker"}), "99 folds by speaker"),
    "folds by nothing known": (dict(folds={"k": 3, "by": "mood"}), "'mood'"),
    "half a fold": (dict(folds={"k": 3.5}), "k=3.5"),
    "a seed that is none": (dict(folds={"k": 3, "by": None, "seed": "x"}), "seed"),
    "an unknown setting of folds": (dict(folds={"n": 3}), "got n"),
    "a fold of two parts": (dict(folds={1: ([0], [1])}), "(train, dev, test)"),
    "a fold without number": (dict(folds={1.5: ([0], [1], [2])}), "1.5"),
    "rows that are fractions": (dict(folds={1: ([0.5], [1], [2])}), "fold 1 train"),
    "rows that are truths": (dict(folds={1: (np.ones(N, bool), [1], [2])}), "fold 1 train"),
    "rows out of range": (dict(folds={1: ([N], [1], [2])}), f"rows in 0..{N - 1}"),
    "negative rows": (dict(folds={1: ([-1], [1], [2])}), "rows in 0.."),
    "rows in two parts": (dict(folds={1: ([0, 1], [1], [2])}), "no utterance in both train and dev"),
    "an empty part": (dict(folds={1: ([0], [], [2])}), "fold 1 dev"),
    "features of a store": (dict(audio="hubert"), "to choose features"),
}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return plain_store(tmp_path_factory.mktemp("made"))[0]


@pytest.mark.parametrize("wrong", SETTINGS)
def test_a_wrong_setting_is_one_error(made, wrong):
    options, fragment = SETTINGS[wrong]
    with pytest.raises(mc.MmerError) as caught:
        mc.open_corpus(made, **options)
    assert fragment in str(caught.value)


@pytest.mark.parametrize("nowhere", NOWHERE, ids=ascii)
def test_a_path_that_leads_nowhere_is_one_error(tmp_path, made, nowhere, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "file").write_text("")
    source = plain(tmp_path)[0]
    for call in (
        lambda: mc.open_corpus(nowhere, tmp_path / "stores" / "a"),
        lambda: mc.open_corpus(made, folds=nowhere),
        lambda: mc.open_corpus(source, tmp_path / "stores" / "a", audio=nowhere),
        lambda: mc.open_corpus(source, nowhere),
        lambda: mc.open_study(nowhere),
    ):
        with pytest.raises(mc.MmerError) as caught:
            call()
        assert len(str(caught.value)) < 20_000
    assert {p.name for p in tmp_path.iterdir()} == {"loop", "file", "plain"}


def test_classes_that_leave_a_part_empty_are_refused_unless_folds_are_given_too(made):
    corpus = mc.open_corpus(made)
    rows, rest = (np.flatnonzero(np.isin(corpus.label, [0, 2], invert=invert)) for invert in (False, True))
    view, classes = mc.open_corpus(made, folds={1: (rows[:-2], rows[-2:], rest)}), {"calm": "calm", "glad": "glad"}
    with pytest.raises(mc.CorpusError, match="fold 1 test: expected at least one utterance"):
        adapted(view, None, classes)
    assert len(adapted(view, {"k": 3, "by": None}, classes).folds) == 3


@pytest.mark.parametrize("kind", ["tree", "plain", "npz", "mmsa", "mult"])
def test_a_name_that_is_no_unicode_is_refused_before_any_work(tmp_path, kind, monkeypatch):
    home = tmp_path / os.fsdecode(b"a\xff")
    home.mkdir()
    path, options = FORMATS[kind](home)
    monkeypatch.setattr(writer, "new_store", None)
    with pytest.raises(mc.CorpusError, match="valid Unicode"):
        mc.open_corpus(path, tmp_path / "stores" / "a", **options)
    assert not (tmp_path / "stores").exists()


# ------------------------------------------------------------------------------------------ no room


@pytest.mark.parametrize("error", [PermissionError(13, "Permission denied"), OSError(30, "Read-only file system")])
@pytest.mark.parametrize("where", ["TemporaryDirectory", "os.replace", "os.chmod"])
def test_a_disk_that_cannot_be_written_is_one_error_and_leaves_nothing(tmp_path, monkeypatch, where, error):
    path, _ = plain(tmp_path)

    def refuse(*args, **kwargs):
        raise error

    monkeypatch.setattr(f"mmer_core.store.{where}", refuse)
    with pytest.raises(mc.CorpusError, match=r"stores/a: expected a free place with room.*\[Errno") as caught:
        mc.open_corpus(path, tmp_path / "stores" / "a")
    assert error.strerror in str(caught.value)
    assert not list((tmp_path / "stores").iterdir())


@pytest.mark.parametrize("most", [0, 100, 1000, 3000])
@pytest.mark.parametrize("kind", [kind for kind in FORMATS if "store" not in kind])
def test_a_full_disk_is_one_error_and_leaves_nothing(tmp_path, kind, most):
    path, options = FORMATS[kind](tmp_path)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, before[1]))
    try:
        with pytest.raises(mc.CorpusError, match="stores/a: expected a free place with room"):
            mc.open_corpus(path, tmp_path / "stores" / "a", **options)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not list((tmp_path / "stores").iterdir())


def test_a_file_where_the_folder_of_stores_should_be_is_one_error(tmp_path):
    (tmp_path / "stores").write_text("mine")
    with pytest.raises(mc.CorpusError, match="stores/a: expected"):
        mc.open_corpus(plain(tmp_path)[0], tmp_path / "stores" / "a")
    assert (tmp_path / "stores").read_text() == "mine"


# ------------------------------------------------------------------------------------------ told, where it is no error


def opened(tmp_path, kind, *damages):
    path, options = EVERY[kind](tmp_path)
    for damage in damages:
        damage(options.get("folds", path))
    return mc.open_corpus(path, tmp_path / "stores" / "a", **options)


def left(length):
    """Move all steps of each utterance to the end."""
    return lambda x: np.stack([np.roll(row, len(row) - length(row), 0) for row in x])


def filled(row):
    return int(np.flatnonzero(row.reshape(len(row), -1).any(1)).max(initial=-1)) + 1


TOLD = {
    "tree: frames behind their length": (
        at("fold*/*_video.npy", array(lambda x: np.where(x == 0, 1, x).astype("f4"))),
        "video holds numbers behind its stated length",
    ),
    "tree: tokens padded on the left": (at("fold*/*_nlp_trans.npy", array(left(filled))), "Text is padded on the left"),
    "vectors: text padded on the left": (at("fold*/*_text.npy", array(left(filled))), "Text is padded on the left"),
    "tree: audio padded on the left": (at("fold*/*_mfcc.npy", array(left(filled))), "audio padded on the left, rolled"),
    "tree: labels from 1": (
        at(
            ".",
            lambda r: at("fold*/*_label.npy", array(lambda x: x + 1))(r),
            lambda r: at("fold*/classes.json", text('["a", "b", "c", "d"]'))(r),
        ),
        "No utterance has the label 'a'.",
    ),
    "tree: a fold that is missing": (at("fold01", lambda f: f.rename(f.with_name("fold04"))), "no test parts 3: fold"),
    "tree: lengths too long": (at("fold*/*_video_seqN.npy", array(lambda x: x + 9)), "video length beyond the array"),
    "plain: a fold that is missing": (at("utterances.csv", sub("2.5,3$", "2.5,5", 0)), "no test parts 3: folds are"),
    "folds.csv: a fold that is missing": (sub("^.*,2,.*\n", "", 0), "no test parts 2: folds are 1, 3, 4"),
    "plain: a class that nobody has": (at("utterances.csv", sub(",calm,", ",glad,", 0)), "has the label 'calm'"),
    "plain: features without a row": (
        at("audio", lambda f: np.save(f / "u.npy", np.zeros((1, 4)))),
        "1 files of audio belong to no row of utterances.csv, such as u.npy.",
    ),
    "npz: features without a row": (
        at("utterances.csv", sub("^Ses.*\n", "")),
        "1 files of audio belong to no row of utterances.csv, such as Ses01F",
    ),
    "plain: two ids for the same": (
        lambda root: [
            shutil.copy(f, root / "audio" / f.name.replace("Ses02", "Ses09")) and twin(root, f.stem)
            for f in root.glob(f"audio/{UTTERANCE}.npy")
        ],
        "1 utterances have the frames and label of another one, under an id of their own.",
    ),
    "mmsa: scores beyond the scale": (pickled(put(40), key="regression_labels"), "1 scores are beyond -3 or 3"),
    "mmsa: frames behind their length": (
        pickled(lambda x: np.ones_like(x), key="audio"),
        "rows of audio hold numbers behind their stated length",
    ),
    "mmsa: audio of -inf": (pickled(put(-np.inf), key="audio"), "1 numbers of audio are -inf, taken as 0."),
}


def twin(root, name):
    other = name.replace("Ses02", "Ses09")
    for m in ("text", "video"):
        shutil.copy(root / m / f"{name}.npy", root / m / f"{other}.npy")
    sub(f"(^{name}(,.*\n))", rf"\1{other}\2")(root / "utterances.csv")


@pytest.mark.parametrize("odd", TOLD)
def test_what_is_odd_is_told(tmp_path, odd):
    kind = odd.partition(":")[0]
    before = opened(tmp_path / "before", kind) if (tmp_path / "before").mkdir() is None else None
    (tmp_path / "after").mkdir()
    damage, sentence = TOLD[odd]
    after = opened(tmp_path / "after", kind, damage)
    assert any(sentence in found for found in after.findings), after.findings
    assert not any(sentence in found for found in before.findings)
    if "padded on the left" in odd:
        assert after.content == before.content


def test_class_names_that_come_after_the_import_are_told(tmp_path):
    tree, _ = amh_tree(tmp_path)
    for file in tree.glob("fold*/classes.json"):
        file.unlink()
    corpus = mc.open_corpus(tree, tmp_path / "store")
    (tree / "classes.json").write_text('["a", "b", "c"]')
    with pytest.raises(mc.CorpusError, match=f"classes.json: .*new since then; delete {corpus.path}"):
        mc.open_corpus(tree, tmp_path / "store")


# ------------------------------------------------------------------------------------------ anything at all


class Bench:
    """A corpus of a kind in a folder of its own, of which one file at a time is something else."""

    def __init__(self, kind):
        self.kind, self.home = kind, tempfile.TemporaryDirectory()
        self.root = Path(self.home.name)
        if kind == "study":
            path = self.root / "study.toml"
            plain_store(self.root)[0].rename(self.root / "mine")
            path.write_text(STUDY)
            self.open, self.files = lambda: mc.open_study(path), [path]
            return
        path, options = EVERY[kind](self.root)
        source = options.get("folds", path)
        self.open = lambda: mc.open_corpus(path, self.root / "stores" / "a", **options)
        self.files = sorted(file for file in source.rglob("*") if file.is_file()) if source.is_dir() else [source]

    def opens(self, file, content):
        """Whether it opens, and quickly; else it has to be an error of ours. Nothing may be left half-written."""
        before, start = file.read_bytes(), time.perf_counter()
        stores = self.root / "stores"
        try:
            file.write_bytes(content)
            self.open()
            assert {p.name for p in stores.iterdir()} == {"a"} if stores.exists() else True
            return True
        except mc.MmerError as error:
            assert not stores.exists() or not list(stores.iterdir())
            assert str(error)
            return False
        finally:
            file.write_bytes(before)
            shutil.rmtree(stores, ignore_errors=True)
            assert time.perf_counter() - start < 20

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.home.cleanup()


STUDY = """corpus = "mine"
variants = ["paper", {modalities = "tva", attention = "cross"}]
folds = [1, 2]
seeds = [1, 2]
primary_metric = "accuracy"
margin = 0.02
comparisons = ["attention", ["self_tva", "self_tv"]]
classes = {calm = "calm", glad = "warm", cross = "warm", shy = "calm"}
folds_from = {k = 3, by = "speaker", seed = 1}
skip = false
[protocol]
max_epochs = 2
learning_rate = 0.001
"""

WORDS = [
    b"-1",
    b"0",
    b"nan",
    b"inf",
    b"1e999",
    b"99999999999999999999",
    b"1.5",
    b'"',
    b";",
    b",",
    b"\n",
    b"\0",
    b"\xff",
]
WORDS += [
    b"..",
    b"/",
    b"[",
    b"{",
    b"true",
    b"<f8",
    b">f4",
    b"|O",
    b"(1,)",
    b"\x80\x04",
    b"R",
    b"null",
    b"'",
    b"=",
    b"PK",
]


def mutated(rng, content, others):
    """The content of a file with a few bytes changed, put in, taken out or said twice; cut off; or another file's."""
    if rng.random() < 0.05:
        return rng.choice(others).read_bytes()
    data = bytearray(content)
    for _ in range(rng.choice([1, 1, 1, 2, 4, 8])):
        i, n = rng.randrange(len(data) + 1), rng.choice([1, 1, 2, 8, 64])
        what = rng.choice([0, 0, 0, 0, 1, 2, 3, 4, 5])
        if what == 0:
            data[i : i + 1] = bytes([rng.randrange(256)])
        elif what == 1:
            data[i : i + n] = b""
        elif what == 2:
            data[i:i] = data[i : i + n]
        elif what == 3:
            del data[i:]
        else:  # something that means something
            data[i : i + n * (what - 4)] = rng.choice(WORDS)
    return bytes(data)


KINDS = [*EVERY, "study"]


def fuzz(inputs, seed):
    """How many of so many inputs of each kind open."""
    rng, opened = random.Random(seed), {}
    for kind in KINDS:
        with Bench(kind) as bench:
            small = {f: f.read_bytes() for f in bench.files}
            heads = [f for f in small if f.suffix not in (".npy",)] or bench.files
            for _ in range(inputs // len(KINDS)):
                file = rng.choice(rng.choice([bench.files, heads]))
                content = mutated(rng, small[file], bench.files)
                try:
                    opened[kind] = opened.get(kind, 0) + bench.opens(file, content)
                except BaseException as error:
                    error.add_note(f"{kind}: {file.name}, seed {seed}: {content[:3000]!r}")
                    raise
    return opened


def test_some_of_the_inputs_of_the_fuzz_run():
    opened = fuzz(210, seed=1)
    assert sum(opened.values()) < 210


@pytest.mark.slow
def test_ten_thousand_inputs_find_nothing_else():
    with little():
        opened = fuzz(10_000, seed=0)
    assert set(opened) == set(KINDS) and 0 < sum(opened.values()) < 9_000


AT_MOST = settings(max_examples=60, deadline=None, database=None, suppress_health_check=list(HealthCheck))
CELL = st.one_of(
    st.sampled_from(["Ses01F_impro01_M000", "calm", "glad", "1", "train", "", "nan", "-1", "..", "a/b", '"', "\ufeff"]),
    st.text(max_size=5),
)


@AT_MOST
@given(
    head=st.lists(st.sampled_from(["id", "label", "fold", "part", "text", "start", "speaker", "x"]), max_size=8),
    rows=st.lists(st.lists(CELL, max_size=8), max_size=6),
    separator=st.sampled_from([",", ",", ",", ";", "\t"]),
)
@pytest.mark.parametrize("kind", ["plain", "folds.csv"])
def test_any_table_opens_or_is_refused(kind, head, rows, separator):
    table = "\n".join(separator.join(row) for row in [head, *rows])
    with bench(kind) as b:
        b.opens(next(f for f in b.files if f.suffix == ".csv"), table.encode("utf-8", "surrogatepass"))


SCALAR = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8))
DATA = st.recursive(SCALAR, lambda x: st.one_of(st.lists(x, max_size=4), st.dictionaries(st.text(max_size=5), x)))


@AT_MOST
@given(data=st.data())
@pytest.mark.parametrize("kind", ["tree", "store", "plain store", "emobox", "s3prl"])
def test_any_json_opens_or_is_refused(kind, data):
    with bench(kind) as b:
        file = next(f for f in b.files if ".json" in f.name)
        whole = json.loads(file.read_text().splitlines()[0])
        if isinstance(whole, dict) and data.draw(st.booleans()):
            whole[data.draw(st.sampled_from(sorted(whole)))] = data.draw(DATA)
        else:
            whole = data.draw(DATA)
        b.opens(file, json.dumps(whole).encode())


@AT_MOST
@given(data=st.data())
@pytest.mark.parametrize("kind", ["mmsa", "mult"])
def test_any_pickle_opens_or_is_refused(kind, data):
    with bench(kind) as b:
        whole = pickle.loads(b.files[0].read_bytes())
        part = whole[data.draw(st.sampled_from(["train", "valid", "test"]))]
        key = data.draw(st.sampled_from(sorted(part)))
        part[key] = data.draw(st.one_of(DATA, st.lists(DATA, min_size=8, max_size=8), ARRAY))
        content = bytearray(pickle.dumps(whole, protocol=data.draw(st.integers(0, 5))))
        for _ in range(data.draw(st.integers(0, 2))):
            content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
        b.opens(b.files[0], bytes(content))


ARRAY = st.builds(
    lambda shape, dtype, value: np.full(shape, value).astype(dtype),
    st.lists(st.integers(0, 9), max_size=4),
    st.sampled_from(["<f4", ">f8", "i8", "u1", "bool", "U3", "S2", "complex64", "object"]),
    st.integers(0, 100),
)


@AT_MOST
@given(data=st.data(), array=ARRAY)
@pytest.mark.parametrize("kind", ["tree", "vectors", "plain", "npz", "merbench", "store"])
def test_any_array_opens_or_is_refused(kind, data, array):
    with bench(kind) as b:
        file = data.draw(st.sampled_from([f for f in b.files if f.suffix in (".npy", ".npz")]))
        out = io.BytesIO()
        if file.suffix == ".npz":
            whole = dict(np.load(file, allow_pickle=True))
            np.savez(out, **{**whole, data.draw(st.sampled_from(sorted(whole))): array})
        else:
            np.save(out, array)
        content = bytearray(out.getvalue())
        for _ in range(data.draw(st.integers(0, 2))):
            content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
        b.opens(file, bytes(content))


@AT_MOST
@given(data=st.data())
@pytest.mark.parametrize("kind", ["plain", "study"])
def test_any_settings_open_or_are_refused(kind, data):
    toml = st.one_of(
        st.booleans(), st.integers(), st.floats(), st.text(max_size=5), st.lists(st.integers(-1, 9), max_size=3)
    )
    toml = st.one_of(toml, st.lists(toml, max_size=3), st.dictionaries(st.sampled_from(["audio", "k", "by"]), toml))
    with bench(kind) as b:
        file = next(f for f in b.files if f.suffix == ".toml")
        lines = file.read_text().splitlines()
        i = data.draw(st.integers(0, len(lines) - 1))
        lines[i] = f"{lines[i].partition('=')[0]}= {as_toml(data.draw(toml))}"
        b.opens(file, "\n".join(lines).encode("utf-8", "surrogatepass"))


def as_toml(x):
    if isinstance(x, dict):
        return "{" + ", ".join(f"{k} = {as_toml(v)}" for k, v in x.items()) + "}"
    if isinstance(x, list):
        return "[" + ", ".join(map(as_toml, x)) + "]"
    return repr(x).replace("True", "true").replace("False", "false") if not isinstance(x, str) else json.dumps(x)


BENCHES: dict[str, Bench] = {}


@contextmanager
def bench(kind):
    """The one of this kind, which is as it was after each use."""
    if kind not in BENCHES:
        BENCHES[kind] = Bench(kind)
    yield BENCHES[kind]
