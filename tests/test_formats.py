"""Reading AMH trees: what was written comes out, what is odd is told, what is broken is refused and leaves nothing."""

import codecs
import json
import os
import pickle
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from amh import IEMOCAP, SMALL, assert_same_content, random_data, random_splits, rewrite, write_tree

import mmer_core as mc
from mmer_core import store as writer
from mmer_core.formats import pickles as reading
from mmer_core.formats.pickles import read_dictionary

EXPAND = Path(__file__).resolve().parents[2] / "shared" / "real" / "expand.py"


@pytest.fixture
def tree(tmp_path):
    return write_tree(tmp_path / "tree", random_data(), random_splits())


def told(corpus, pattern):
    """The one finding that matches."""
    (finding,) = [f for f in corpus.findings if re.search(pattern, f)]
    return finding


def imported(tmp_path, data, splits, **kwargs):
    """The corpus of a tree that is written for it."""
    return mc.open_corpus(write_tree(tmp_path / "tree", data, splits, **kwargs), tmp_path / "store")


# ---------------------------------------------------------------------------------------------- what comes out

SIZES = {
    "small": SMALL,
    "one step, one feature": {"text": (1, 1), "video": (1, 1), "audio": (1, 1)},
    "long and thin": {"text": (70, 2), "video": (3, 40), "audio": (130, 1)},
}


@pytest.mark.parametrize("text", ["tokens", "vectors", "vectors and vocabulary"])
@pytest.mark.parametrize("sizes", SIZES)
def test_every_utterance_comes_out_as_it_was_written(tmp_path, sizes, text):
    data, splits = random_data(sizes=SIZES[sizes], n=150), random_splits(n=150, folds=3)
    corpus = mc.open_corpus(write_tree(tmp_path / "tree", data, splits, text), tmp_path / "store")
    assert_same_content(corpus, data, splits)
    assert len(corpus) == 150
    got = corpus.sizes
    assert {"text": tuple(got.text), "video": tuple(got.video), "audio": tuple(got.audio)} == SIZES[sizes]


def test_a_tree_of_the_sizes_of_iemocap_is_read(tmp_path):
    data, splits = random_data(n=30, sizes=IEMOCAP, classes=7, words=3000), random_splits(n=30, folds=2)
    corpus = imported(tmp_path, data, splits, classes=None)
    assert_same_content(corpus, data, splits)
    assert (corpus.sizes.audio, corpus.sizes.video, corpus.sizes.text) == ((1000, 120), (32, 2048), (128, 300))
    assert corpus.sizes.classes == 7


@pytest.mark.parametrize("seed", range(6))
def test_odd_lengths_follow_the_rules(tmp_path, seed):
    data, splits = random_data(n=40, seed=seed), random_splits(n=40, folds=3, seed=seed)
    rng = np.random.default_rng(seed)
    data["audio_seqN"] = rng.integers(0, 14, 40)  # 0 counts as 1; more than 9 is cut to 9
    data["video_seqN"] = rng.integers(0, 7, 40)  # 0 is dropped; more than 4 is cut to 4
    data["nlp_trans"][rng.random(40) < 0.3] = 0  # padding only: one pad token
    data["nlp_trans"][rng.random((40, 6)) < 0.3] = 0  # padding between words is part of the text
    corpus = imported(tmp_path, data, splits)
    assert_same_content(corpus, data, splits)
    video, audio = data["video_seqN"], data["audio_seqN"]
    assert len(corpus) == (video > 0).sum()
    kept = video > 0
    for pattern, count in {
        "no video": (~kept).sum(),
        "audio length beyond": (kept & (audio > 9)).sum(),
        "video length beyond": (kept & (video > 4)).sum(),
        "audio length 0": (kept & (audio == 0)).sum(),
        "text is padding only": (kept & ~data["nlp_trans"].any(1)).sum(),
    }.items():
        assert told(corpus, pattern).startswith(f"{3 * count} rows (over all folds)")  # each stands in 3 folds
    assert corpus.dropped == dict.fromkeys((1, 2, 3), (~kept).sum())


def test_text_vectors_give_the_same_text_as_tokens(tmp_path):
    data, splits = random_data(), random_splits()
    data["nlp_trans"][3] = 0
    data["W_embedding"][0] = 0.25  # padding need not be zero
    a, b = (
        mc.open_corpus(write_tree(tmp_path / name, data, splits, text), tmp_path / f"{name} store")
        for name, text in (("a", "tokens"), ("b", "vectors and vocabulary"))
    )
    rows = np.arange(len(a))
    np.testing.assert_array_equal(a.features("text", rows), b.features("text", rows))
    np.testing.assert_array_equal(a.lengths["text"], b.lengths["text"])


def test_the_first_row_is_dropped_even_if_it_is_the_only_one_without_video(tmp_path):
    data, splits = random_data(), random_splits()
    data["video_seqN"][splits[1]["train"][0]] = 0
    corpus = imported(tmp_path, data, splits)
    assert len(corpus) == 19
    assert corpus.ids[0] == "fold01/train/1"
    assert corpus.dropped == {1: 1, 2: 1}


@pytest.mark.parametrize("dtype", ["float16", "float64", ">f4"])
def test_any_float_type_and_layout_becomes_float32(tmp_path, dtype):
    data, splits = random_data(), random_splits()
    for name in ("audio_mfcc", "video", "W_embedding"):
        data[name] = np.asfortranarray(data[name].astype(dtype))
    data["label"], data["audio_seqN"] = data["label"].astype(np.uint8), data["audio_seqN"].astype(">i2")
    assert_same_content(imported(tmp_path, data, splits), data, splits)


def test_more_than_nine_folds_come_in_order(tmp_path):
    splits = {k: random_splits(folds=5, seed=k)[1] for k in (2, 10, 1)}
    tree = write_tree(tmp_path / "tree", random_data(), splits)
    (tree / "fold10").rename(tree / "fold010")
    (tree / "fold02").rename(tree / "fold2")
    corpus = mc.open_corpus(tree, tmp_path / "store")
    assert list(corpus.folds) == [1, 2, 10]
    assert_same_content(corpus, random_data(), splits)


def test_files_that_are_not_asked_for_do_no_harm(tmp_path, tree):
    for name in ("README.txt", "folds.txt", "folder", "fold01/train_audio_prosody.npy"):
        (tree / name).write_text("not an array")
    assert len(mc.open_corpus(tree, tmp_path / "store")) == 20


def test_a_store_opens_in_place_and_by_its_tree(tmp_path, tree):
    first = mc.open_corpus(tree, tmp_path / "store")
    for again in (mc.open_corpus(tmp_path / "store"), mc.open_corpus(str(tree), str(tmp_path / "store"))):
        assert again.fingerprint == first.fingerprint
        assert again.source == str(tree)


def test_the_store_lies_in_data_by_default(tmp_path, tree, monkeypatch):
    monkeypatch.setenv("MMER_ROOT", str(tmp_path / "root"))
    assert mc.open_corpus(tree).path == tmp_path / "root" / "data" / "tree"


def test_a_tree_in_data_gets_its_store_beside_it(tmp_path, monkeypatch):
    monkeypatch.setenv("MMER_ROOT", str(tmp_path))
    tree = write_tree(tmp_path / "data" / "mine", random_data(), random_splits())
    for _ in range(2):
        assert mc.open_corpus(tree).path == tmp_path / "data" / "mine.store"


def test_the_second_opening_reads_nothing_of_the_tree(tmp_path, tree):
    mc.open_corpus(tree, tmp_path / "store")
    shutil.rmtree(tree)
    tree.mkdir()
    assert len(mc.open_corpus(tree, tmp_path / "store")) == 20


@pytest.mark.parametrize("what", ["label", "audio_mfcc", "video", "nlp_trans", "audio_seqN", "W_embedding"])
def test_other_content_gives_another_fingerprint(tmp_path, what):
    data, splits = random_data(), random_splits()
    data["audio_seqN"][:] = 5
    before = mc.open_corpus(write_tree(tmp_path / "a", data, splits), tmp_path / "a store")
    same = mc.open_corpus(write_tree(tmp_path / "b", data, splits), tmp_path / "b store")
    data[what].flat[-1] += 1 if what != "label" else -data["label"][-1] or 1
    other = mc.open_corpus(write_tree(tmp_path / "c", data, splits), tmp_path / "c store")
    assert before.fingerprint == same.fingerprint != other.fingerprint


def test_other_folds_give_another_fingerprint(tmp_path):
    data, splits = random_data(), random_splits()
    before = mc.open_corpus(write_tree(tmp_path / "a", data, splits), tmp_path / "a store")
    splits[2]["dev"], splits[2]["test"] = splits[2]["test"], splits[2]["dev"]
    other = mc.open_corpus(write_tree(tmp_path / "b", data, splits), tmp_path / "b store")
    assert before.fingerprint != other.fingerprint


# --------------------------------------------------------------------------------------------------- what is told


def test_an_ordinary_tree_has_little_to_tell(tmp_path, tree):
    assert mc.open_corpus(tree, tmp_path / "store").findings == [
        "20 different utterances in 2 folds.",
        "No two test parts share an utterance.",
        "The files name neither speakers nor dialogues, so leakage between the parts of a fold cannot be excluded.",
    ]


def test_test_parts_that_overlap_are_told(tmp_path):
    splits = random_splits()
    shared = splits[1]["test"][:3]
    splits[2] = {"train": splits[1]["train"], "dev": splits[1]["dev"], "test": shared}
    assert told(imported(tmp_path, random_data(), splits), "test parts").startswith("3 utterances")


def test_an_utterance_twice_in_one_part_is_told_and_kept_twice(tmp_path):
    data, splits = random_data(), random_splits(folds=1)
    splits[1]["dev"] = np.append(splits[1]["dev"], splits[1]["dev"][:2])
    corpus = imported(tmp_path, data, splits)
    assert told(corpus, "twice in one part").startswith("2 rows")
    assert len(corpus) == 20
    assert_same_content(corpus, data, splits)


def test_the_same_content_with_different_labels_is_told(tmp_path):
    data, splits = random_data(), random_splits()
    for array in data.values():
        if len(array) == 20:
            array[5] = array[6]
    data["label"][5:7] = 0, 1
    corpus = imported(tmp_path, data, splits)
    assert told(corpus, "different labels").startswith("1 utterances")
    assert len(corpus) == 20


def test_folds_that_are_scaled_by_themselves_keep_their_own_copies(tmp_path):
    data, splits = random_data(), random_splits()
    tree = write_tree(tmp_path / "tree", data, splits)
    for file in (tree / "fold02").glob("*_audio_mfcc.npy"):
        rewrite(file, lambda x: 2 * x)
    corpus = mc.open_corpus(tree, tmp_path / "store")
    assert len(corpus) == 40
    assert told(corpus, "own copy").startswith("20 utterances")
    assert not any("No two test parts" in f for f in corpus.findings)  # it cannot be known
    for k, scale in ((1, 1), (2, 2)):
        for part, rows in splits[k].items():
            got = corpus.features("audio", getattr(corpus.folds[k], part))
            np.testing.assert_array_equal(got, scale * data["audio_mfcc"][rows])


def test_two_people_who_say_the_same_are_no_scaled_copies(tmp_path):
    data = random_data()
    for name in ("nlp_trans", "label", "audio_seqN", "video_seqN"):
        data[name][5] = data[name][6]
    assert not any("own copy" in f for f in imported(tmp_path, data, random_splits()).findings)


# ---------------------------------------------------------------------------------------------------- class names


def test_classes_without_names_are_numbered_and_it_is_told(tmp_path):
    corpus = imported(tmp_path, random_data(), random_splits(), classes=None)
    assert corpus.classes == ["class 0", "class 1", "class 2"]
    assert told(corpus, "do not name the classes")


@pytest.mark.parametrize("place", ["fold01", "fold02", "."])
def test_class_names_may_lie_in_a_fold_or_above(tmp_path, place):
    tree = write_tree(tmp_path / "tree", random_data(), random_splits(), classes=None)
    (tree / place / "classes.json").write_text('["ä", "b", "c", "not in the labels"]', encoding="utf-8")
    corpus = mc.open_corpus(tree, tmp_path / "store")
    assert corpus.classes == ["ä", "b", "c"]
    assert not any("class" in f for f in corpus.findings)


# ---------------------------------------------------------------------------------------------------- broken trees


def put(value, at=0):
    def change(array):
        array.flat[at] = value

    return change


def truncate(file, by=8):
    file.write_bytes(file.read_bytes()[:-by])


def with_objects(file):
    np.save(file, np.array([{"a": 1}, None], object), allow_pickle=True)


def as_zip(file):
    with open(file, "wb") as f:
        np.savez(f, np.zeros(3))


def as_folder(file):
    file.unlink()
    file.mkdir()


ARRAYS = ("label", "audio_mfcc", "audio_seqN", "video", "video_seqN", "nlp_trans")
BROKEN_FILES = {
    "is missing": Path.unlink,
    "is a folder": as_folder,
    "is empty": lambda file: file.write_bytes(b""),
    "is truncated": truncate,
    "ends in its header": lambda file: file.write_bytes(file.read_bytes()[:50]),
    "has a broken header": lambda file: file.write_bytes(file.read_bytes().replace(b"}", b"(", 1)),
    "is no array": lambda file: file.write_text("surely no array"),
    "is a pickle": lambda file: file.write_bytes(pickle.dumps([1, 2])),
    "is a zip": as_zip,
    "holds objects": with_objects,
    "has no axes": lambda file: np.save(file, np.float32(1)),
    "has an axis more": lambda file: rewrite(file, lambda x: x[..., None]),
    "has a row less": lambda file: rewrite(file, lambda x: x[:-1]),
    "holds texts": lambda file: rewrite(file, lambda x: x.astype(str)),
    "holds complex numbers": lambda file: rewrite(file, lambda x: x.astype(complex)),
}


def refuses(tree, store, *names):
    """Opening fails with a CorpusError that names all of `names`, and where the store was to be there is nothing."""
    with pytest.raises(mc.CorpusError) as caught:
        mc.open_corpus(tree, store)
    for name in names:
        assert name in str(caught.value)
    assert not store.parent.exists() or not list(store.parent.iterdir())


@pytest.mark.parametrize("damage", BROKEN_FILES)
def test_a_broken_file_is_named(tmp_path, tree, damage):
    whole = shutil.copytree(tree / "fold02", tmp_path / "whole")
    for array in ARRAYS:
        BROKEN_FILES[damage](tree / "fold02" / f"dev_{array}.npy")
        one_of_the_others = damage == "has a row less" and array == "label"
        file = "dev_" if one_of_the_others else f"dev_{array}.npy"
        refuses(tree, tmp_path / "stores" / "a", str(tree / "fold02" / file))
        shutil.rmtree(tree / "fold02")
        shutil.copytree(whole, tree / "fold02")


@pytest.mark.parametrize("damage", [damage for damage in BROKEN_FILES if damage != "has a row less"])
def test_a_broken_vocabulary_is_named(tmp_path, tree, damage):
    BROKEN_FILES[damage](tree / "fold02" / "W_embedding.npy")
    refuses(tree, tmp_path / "stores" / "a", str(tree / "fold02" / "W_embedding.npy"))


WRONG_CONTENT = {
    "NaN in audio": ("dev_audio_mfcc", put(np.nan)),
    "infinity in audio": ("dev_audio_mfcc", put(-np.inf, -1)),
    "NaN in video": ("train_video", put(np.nan, -1)),
    "labels as floats": ("dev_label", lambda x: x.astype(float)),
    "a negative label": ("dev_label", put(-1)),
    "an absurd label": ("dev_label", put(2**60)),
    "lengths as floats": ("dev_audio_seqN", lambda x: x.astype(np.float32)),
    "a negative length of audio": ("dev_audio_seqN", put(-1, -1)),
    "a negative length of video": ("dev_video_seqN", put(-1, -1)),
    "a negative token": ("dev_nlp_trans", put(-1)),
    "a token without vector": ("dev_nlp_trans", put(30, -1)),
    "tokens as floats": ("dev_nlp_trans", lambda x: x.astype(float)),
    "audio as whole numbers": ("dev_audio_mfcc", lambda x: x.astype(int)),
    "other time steps": ("dev_video", lambda x: x[:, 1:]),
    "other features": ("dev_audio_mfcc", lambda x: x[..., :1]),
    "no time steps": ("dev_video", lambda x: x[:, :0]),
    "other text length": ("dev_nlp_trans", lambda x: x[:, :-1]),
    "NaN in the vocabulary": ("W_embedding", put(np.nan)),
    "another vocabulary": ("W_embedding", put(7)),
    "a larger vocabulary": ("W_embedding", lambda x: np.vstack([x, x])),
    "an empty vocabulary": ("W_embedding", lambda x: x[:0]),
}


@pytest.mark.parametrize("wrong", WRONG_CONTENT)
def test_wrong_content_is_refused_with_the_name_of_its_file(tmp_path, tree, wrong):
    name, change = WRONG_CONTENT[wrong]
    rewrite(tree / "fold02" / f"{name}.npy", change)
    refuses(tree, tmp_path / "stores" / "a", str(tree / "fold02" / f"{name}.npy"), "expected", "found")


def test_the_row_of_a_nan_is_told_as_it_is_numbered_in_the_file(tmp_path):
    data, splits = random_data(n=150), random_splits(n=150)
    rows = splits[1]["train"]
    data["video_seqN"][rows[:3]] = 0  # dropped, but they have their numbers
    data["audio_mfcc"][rows[70], 2, 1] = np.nan
    tree = write_tree(tmp_path / "tree", data, splits)
    refuses(tree, tmp_path / "stores" / "a", "fold01/train_audio_mfcc.npy", "row 70")


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_ready_text_must_be_finite(tmp_path, value):
    tree = write_tree(tmp_path / "tree", random_data(), random_splits(), "vectors")
    rewrite(tree / "fold02" / "test_text.npy", put(value))
    refuses(tree, tmp_path / "stores" / "a", "fold02/test_text.npy", "row 0")


def test_ready_text_must_fit_the_vocabulary_beside_it(tmp_path):
    tree = write_tree(tmp_path / "tree", random_data(), random_splits(), "vectors and vocabulary")
    for k in (1, 2):
        rewrite(tree / f"fold0{k}" / "W_embedding.npy", lambda x: x[:, :3])
    refuses(tree, tmp_path / "stores" / "a", "fold01/train_text.npy", "5")


def test_tokens_in_one_part_and_vectors_in_another_are_refused(tmp_path, tree):
    file = tree / "fold02" / "test_nlp_trans.npy"
    np.save(tree / "fold02" / "test_text.npy", np.zeros((4, *SMALL["text"]), np.float32))
    file.unlink()
    refuses(tree, tmp_path / "stores" / "a", str(tree / "fold02"), "nlp_trans")


@pytest.mark.parametrize("parts", [("train", "dev"), ("train", "test"), ("dev", "test")])
def test_an_utterance_in_two_parts_of_one_fold_is_refused(tmp_path, parts):
    splits = random_splits()
    splits[2][parts[0]] = np.append(splits[2][parts[0]], splits[2][parts[1]][:1])
    tree = write_tree(tmp_path / "tree", random_data(), splits)
    refuses(tree, tmp_path / "stores" / "a", f"{tree} fold 2", *parts, "found 1")


@pytest.mark.parametrize("text", ["tokens", "vectors"])
def test_an_empty_part_is_refused(tmp_path, text):
    splits = random_splits()
    splits[2]["dev"] = splits[2]["dev"][:0]
    refuses(write_tree(tmp_path / "tree", random_data(), splits, text), tmp_path / "stores" / "a", "fold 2 dev")


def test_a_tree_without_any_utterance_is_refused(tmp_path):
    splits = {1: {part: np.zeros(0, int) for part in ("train", "dev", "test")}}
    refuses(write_tree(tmp_path / "tree", random_data(), splits), tmp_path / "stores" / "a", "fold 1 train")


def test_a_part_without_any_video_is_refused(tmp_path):
    data, splits = random_data(), random_splits()
    data["video_seqN"][splits[2]["test"]] = 0
    splits[1] = splits[2]
    refuses(write_tree(tmp_path / "tree", data, splits), tmp_path / "stores" / "a", "fold 1 test")


@pytest.mark.parametrize(
    "content",
    ['["a", "b"]', '["a", "b", "b"]', '["a", "b", 3]', '{"a": 0, "b": 1, "c": 2}', "3", "no json", "", "[" * 100_000],
)
@pytest.mark.parametrize("place", ["fold02", "."])
def test_class_names_that_do_not_fit_are_refused(tmp_path, content, place):
    tree = write_tree(tmp_path / "tree", random_data(), random_splits(), classes=None)
    (tree / place / "classes.json").write_text(content)
    refuses(tree, tmp_path / "stores" / "a", str(tree / place / "classes.json"))


def test_class_names_must_be_text(tmp_path, tree):
    (tree / "fold01" / "classes.json").write_bytes(b'["\xff", "b", "c"]')
    refuses(tree, tmp_path / "stores" / "a", "fold01/classes.json")


def test_folds_that_name_the_classes_differently_are_refused(tmp_path, tree):
    (tree / "fold02" / "classes.json").write_text('["glad", "sad", "mad"]')
    refuses(tree, tmp_path / "stores" / "a", "fold02/classes.json")


def test_two_folders_for_one_fold_are_refused(tmp_path, tree):
    shutil.copytree(tree / "fold01", tree / "fold1")
    refuses(tree, tmp_path / "stores" / "a", str(tree), "fold01, fold02, fold1")


@pytest.mark.parametrize("what", ["nothing", "a file", "an empty folder"])
def test_a_place_without_a_corpus_is_refused(tmp_path, what):
    path = tmp_path / "place"
    if what == "a file":
        path.write_text("a")
    elif what == "an empty folder":
        path.mkdir()
    refuses(path, tmp_path / "stores" / "a", str(path))


def test_the_store_of_another_tree_is_not_taken_for_this_one(tmp_path, tree):
    other = write_tree(tmp_path / "other", random_data(seed=1), random_splits())
    store = mc.open_corpus(other, tmp_path / "store").path
    with pytest.raises(mc.CorpusError, match=re.escape(str(other))) as caught:
        mc.open_corpus(tree, store)
    assert str(store) in str(caught.value) and str(tree) in str(caught.value)
    assert mc.open_corpus(other, store).source == str(other)


def test_a_folder_of_something_else_is_never_overwritten(tmp_path, tree):
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "thesis.txt").write_text("years of work")
    with pytest.raises(mc.CorpusError, match="store"):
        mc.open_corpus(tree, tmp_path / "store")
    assert (tmp_path / "store" / "thesis.txt").read_text() == "years of work"


@pytest.mark.parametrize("where", ["digest", "finish_store"])
@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
def test_an_import_that_is_interrupted_leaves_nothing(tmp_path, tree, monkeypatch, where, error):
    def interrupt(*args, **kwargs):
        raise error

    with monkeypatch.context() as patch, pytest.raises(error):
        patch.setattr(writer, where, interrupt)
        mc.open_corpus(tree, tmp_path / "stores" / "a")
    assert not list((tmp_path / "stores").iterdir())
    assert len(mc.open_corpus(tree, tmp_path / "stores" / "a")) == 20


def test_a_full_disk_is_a_corpus_error_and_leaves_nothing(tmp_path, tree):
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))  # no file may grow beyond 1000 bytes
    try:
        refuses(tree, tmp_path / "stores" / "a", str(tmp_path / "stores" / "a"), "room")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_of_two_imports_at_once_the_first_one_wins(tmp_path, tree, monkeypatch):
    def finish(*args, **kwargs):
        monkeypatch.undo()
        mc.open_corpus(tree, tmp_path / "stores" / "a")
        writer.finish_store(*args, **kwargs)

    monkeypatch.setattr(writer, "finish_store", finish)
    with pytest.raises(mc.CorpusError, match="stores/a"):
        mc.open_corpus(tree, tmp_path / "stores" / "a")
    assert [p.name for p in (tmp_path / "stores").iterdir()] == ["a"]
    assert len(mc.open_corpus(tree, tmp_path / "stores" / "a")) == 20


# --------------------------------------------------------------------------------------------------- dictionaries

WORDS = {"": 0, "dog": 1, "café": 2, "\U0001f600": 3, "naïve, 'quoted' \\ and\nlong": 29}
HEAD = b"\x80\x02}(U\x03dog"  # protocol 2: a dictionary, the word dog, and then its id
INT64 = b"cnumpy\ndtype\nU\x02i8K\x00K\x01\x87R(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"


def dictionary_file(tmp_path, content):
    file = tmp_path / "dic.pkl"
    file.write_bytes(content if isinstance(content, bytes) else pickle.dumps(content))
    return file


@pytest.mark.parametrize("number", [int, np.int64, np.int32, np.uint8])
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_dictionaries_of_every_protocol_are_read(tmp_path, protocol, number):
    raw = pickle.dumps({word: number(i) for word, i in WORDS.items()}, protocol)
    got = read_dictionary(dictionary_file(tmp_path, raw))
    assert got == WORDS
    assert {type(i) for i in got.values()} == {int}


@pytest.mark.parametrize("module", [b"numpy.core.multiarray", b"numpy._core.multiarray"])
def test_numpy_numbers_of_old_and_new_numpy_are_read(tmp_path, module):
    raw = pickle.dumps({"dog": np.int64(-5), "cat": np.int64(2**40)}, 2)
    raw = raw.replace(b"numpy._core.multiarray", b"numpy.core.multiarray").replace(b"numpy.core.multiarray", module)
    assert read_dictionary(dictionary_file(tmp_path, raw)) == {"dog": -5, "cat": 2**40}


PYTHON_2 = {
    "protocol 0": b"(dp0\nS'dog'\np1\nI1\nsS'caf\\xc3\\xa9'\np2\nI2\ns.",
    "protocol 0, unicode and long": b"(dp0\nVdog\np1\nL1L\nsVcaf\xe9\np2\nI2\ns.",
    "protocol 2": HEAD + b"K\x01U\x05caf\xc3\xa9K\x02u.",
    "protocol 2, numpy numbers": HEAD
    + b"cnumpy.core.multiarray\nscalar\n"
    + INT64
    + b"U\x08\x01\0\0\0\0\0\0\0\x86RU\x05caf\xc3\xa9K\x02u.",
    "protocol 2, numpy numbers of the other byte order": HEAD
    + b"cnumpy.core.multiarray\nscalar\n"
    + INT64.replace(b"<", b">")
    + b"U\x08\0\0\0\0\0\0\0\x01\x86RU\x05caf\xc3\xa9K\x02u.",
}


@pytest.mark.parametrize("kind", PYTHON_2)
def test_dictionaries_of_python_2_are_read(tmp_path, kind):
    assert read_dictionary(dictionary_file(tmp_path, PYTHON_2[kind])) == {"dog": 1, "café": 2}


class Calls:
    """Pickles as a call."""

    def __init__(self, function, *args):
        self.call = function, args

    def __reduce__(self):
        return self.call


def hostile(marker):
    """Pickles that would make the file `marker`, or anything else that is not a dictionary of words."""
    touch = f"touch {marker}"
    code = f"__import__('pathlib').Path({str(marker)!r}).touch()"
    scalar, dtype = np.int64(1).__reduce__()[0], np.dtype
    system = b"cos\nsystem\n(S'" + touch.encode() + b"'\ntR"
    return {
        "os.system": pickle.dumps(Calls(os.system, touch)),
        "os.system, protocol 0": system + b".",
        "os.system as an id": HEAD + system + b"u.",
        "os.system as a word": b"}" + system + b"I1\ns.",
        "os.system, INST": b"(S'" + touch.encode() + b"'\nios\nsystem\n.",
        "eval": pickle.dumps(Calls(eval, code)),
        "exec in the old name": b"c__builtin__\nexec\n(S'" + codecs.escape_encode(code.encode())[0] + b"'\ntR.",
        "open": pickle.dumps(Calls(open, str(marker), "w")),
        "getattr": pickle.dumps(Calls(getattr, dtype, "__class__")),
        "nested getattr": b"cbuiltins\ngetattr\n(cbuiltins\n__import__\n(S'os'\ntRS'system'\ntR(S'"
        + touch.encode()
        + b"'\ntR.",
        "a dotted name": b"\x80\x04\x8c\x05numpy\x8c\x0fdtype.__class__\x93.",
        "a dotted name of an allowed module": b"\x80\x04\x8c\x07_codecs\x8c\x12encode.__globals__\x93.",
        "codecs.decode": pickle.dumps(Calls(codecs.decode, "YQ==", "base64")),
        "an object scalar": pickle.dumps(Calls(scalar, dtype("O"), {"dog": 1})),
        "an array": pickle.dumps({"dog": np.arange(3)}),
        "a structured scalar": pickle.dumps({"dog": np.zeros(1, "i4,i4")[0]}),
        "a float scalar": pickle.dumps({"dog": np.float64(1)}),
        "a scalar without enough bytes": HEAD + b"cnumpy.core.multiarray\nscalar\n" + INT64 + b"U\x01\x01\x86Ru.",
        "a class of ours": pickle.dumps(Path("/")),
        "a persistent id": b"Pthing\n.",
        "an extension": b"\x80\x02\x82\x01.",
    }


WRONG_WORDS = {
    "a list": ["dog"],
    "a number": 3,
    "nothing": None,
    "a float": {"dog": 1.0},
    "a truth": {"dog": True},
    "a text": {"dog": "1"},
    "a number as word": {1: 1},
    "bytes as word": {b"dog": 1},
    "a dictionary in it": {"dog": {"cat": 1}},
}


@pytest.mark.parametrize("kind", hostile("x"))
def test_a_hostile_dictionary_is_refused_and_nothing_in_it_is_executed(tmp_path, kind):
    file = dictionary_file(tmp_path, hostile(tmp_path / "executed")[kind])
    with pytest.raises(mc.CorpusError, match=re.escape(str(file))):
        read_dictionary(file)
    assert not (tmp_path / "executed").exists()


def test_the_hostile_pickles_do_harm_where_they_are_trusted(tmp_path):
    for kind in ("os.system", "os.system as an id", "os.system, INST", "eval", "nested getattr"):
        marker = tmp_path / kind.replace(" ", "-").replace(",", "")
        pickle.loads(hostile(marker)[kind], encoding="latin1")
        assert marker.exists()


def test_a_dictionary_cannot_change_the_reader(tmp_path):
    with pytest.raises(mc.CorpusError):
        read_dictionary(dictionary_file(tmp_path, b"c_codecs\nencode\n}S'harm'\nI1\nsb."))
    assert not any(hasattr(value, "harm") for value in vars(reading).values())


@pytest.mark.parametrize("kind", WRONG_WORDS)
def test_a_dictionary_of_something_else_is_refused(tmp_path, kind):
    file = dictionary_file(tmp_path, WRONG_WORDS[kind])
    with pytest.raises(mc.CorpusError, match=re.escape(str(file))):
        read_dictionary(file)


@pytest.mark.parametrize("protocol", [0, 4])
def test_a_truncated_dictionary_is_refused(tmp_path, protocol):
    raw = pickle.dumps({"dog": np.int64(1), "café": 2}, protocol)
    for stop in range(len(raw)):
        with pytest.raises(mc.CorpusError):
            read_dictionary(dictionary_file(tmp_path, raw[:stop]))


def test_words_reach_the_transcripts(tmp_path, tree):
    dictionary_file(tree / "fold01", {f"word{i}": i for i in range(1, 29)})
    corpus = mc.open_corpus(tree, tmp_path / "store")
    assert len(corpus.words) == 30
    for row in range(len(corpus)):
        tokens = corpus.arrays["tokens"][row, : corpus.lengths["text"][row]].tolist()
        assert corpus.transcript(row) == ["#29" if i == 29 else f"word{i}" for i in tokens]


def test_words_beyond_unicode_are_kept(tmp_path, tree):
    dictionary_file(tree / "fold01", {"\ud800": 1})
    (tree / "classes.json").write_text(json.dumps(["sad", "glad", "mad"]))
    assert mc.open_corpus(tree, tmp_path / "store").words[1] == "\ud800"


@pytest.mark.parametrize("number", [-1, 30, 2**70])
def test_a_word_id_outside_the_vocabulary_is_refused(tmp_path, tree, number):
    file = dictionary_file(tree / "fold02", {"dog": number})
    refuses(tree, tmp_path / "stores" / "a", str(file), "dog", str(number))


def test_a_hostile_dictionary_stops_the_import(tmp_path, tree):
    file = dictionary_file(tree / "fold01", hostile(tmp_path / "executed")["os.system"])
    refuses(tree, tmp_path / "stores" / "a", str(file), "system")
    assert not (tmp_path / "executed").exists()


def test_folds_with_different_dictionaries_are_refused(tmp_path, tree):
    dictionary_file(tree / "fold01", {"dog": 1})
    file = dictionary_file(tree / "fold02", {"dog": 2})
    refuses(tree, tmp_path / "stores" / "a", str(file))


# ---------------------------------------------------------------------------------------------------- a real corpus


@pytest.mark.skipif(not EXPAND.is_file(), reason="no real corpus: ../shared/real/expand.py is absent")
@pytest.mark.parametrize("scale", ["all", "fold"])
def test_a_real_corpus_is_read(tmp_path, scale):
    tree = tmp_path / "meld"
    subprocess.run([sys.executable, EXPAND, "meld", tree, "fold01", "fold02", "--scale", scale], check=True)
    corpus = mc.open_corpus(tree, tmp_path / "store")
    assert corpus.sizes.classes == 7
    assert corpus.classes[0] == "neutral"
    assert corpus.words is not None
    for k in (1, 2):
        assert sum(len(rows) for rows in corpus.folds[k]) == 1108
    if scale == "all":
        assert len(corpus) == 1108
        assert not any("own copy" in f for f in corpus.findings)
    else:
        assert len(corpus) == 2 * 1108
        assert told(corpus, "own copy").startswith("1108 utterances")
        assert not set(np.concatenate(corpus.folds[1])) & set(np.concatenate(corpus.folds[2]))
    for k, fold in corpus.folds.items():
        for part, rows in fold._asdict().items():
            folder = tree / f"fold0{k}"
            for modality, name in (("audio", "audio_mfcc"), ("video", "video")):
                written = np.load(folder / f"{part}_{name}.npy")
                np.testing.assert_array_equal(corpus.features(modality, rows), written)
            tokens = np.load(folder / f"{part}_nlp_trans.npy")
            np.testing.assert_array_equal(corpus.features("text", rows), np.load(folder / "W_embedding.npy")[tokens])
