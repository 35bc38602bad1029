"""Folds: made by groups, written and read, those of the field's partition files; what crosses their parts is told."""

import json
from collections import Counter

import numpy as np
import pytest
from forms import CLASSES, made_up, write_amh, write_plain

import mmer_core as mc
from mmer_core.corpus import PARTS
from mmer_core.folds import crossing, groups, lacking, leaks
from mmer_core.formats import open_corpus


@pytest.fixture(scope="module")
def data():
    return made_up(n=120)


@pytest.fixture(scope="module")
def corpus(data, tmp_path_factory):
    home = tmp_path_factory.mktemp("corpus")
    return mc.open_corpus(write_plain(home / "mine", data), home / "store")


def ids(corpus, folds):
    return {(k, part): {corpus.ids[r] for r in getattr(fold, part)} for k, fold in folds.items() for part in PARTS}


@pytest.mark.parametrize(("k", "by"), [(5, "speaker"), (3, "session"), (None, "session"), (None, "speaker"), (4, None)])
def test_made_folds_test_everything_once_and_part_no_group(corpus, k, by):
    folds = mc.make_folds(corpus, k, by)
    assert len(folds) == (k or len(set(groups(corpus, by))))
    assert Counter(r for fold in folds.values() for r in fold.test) == Counter(range(120))
    for fold in folds.values():
        assert sorted(np.concatenate(fold)) == list(range(120)) and all(map(len, fold))
        if by:
            in_part = [set(groups(corpus, by)[rows]) for rows in fold]
            assert not in_part[0] & in_part[1] and not in_part[0] & in_part[2] and not in_part[1] & in_part[2]
        if k is None:
            assert len(set(groups(corpus, by)[fold.test])) == len(set(groups(corpus, by)[fold.dev])) == 1


def test_made_folds_are_even_in_their_classes_where_groups_allow(corpus):
    for fold in mc.make_folds(corpus, 4, None).values():
        share = np.bincount(corpus.label[fold.test], minlength=7) / np.bincount(corpus.label)
        assert (abs(share - 0.25) < 1.01 / np.bincount(corpus.label)).all()


def test_parts_that_lack_a_class_are_told(corpus, tmp_path):
    """Speakers of one class each: of seven classes a part has those of its speakers only."""
    assert lacking(mc.open_corpus(corpus.path, folds={"k": 3, "by": None})) == []
    rows = np.argsort(corpus.label, kind="stable")
    named = {0: mc.corpus.Fold(rows[:50], rows[50:100], rows[100:])}
    (told,) = lacking(mc.open_corpus(corpus.path, folds=named))
    for part, mine in zip(PARTS, named[0], strict=True):
        absent = sorted(set(range(7)) - set(corpus.label[mine]))
        assert f"fold 0 {part} ({', '.join(corpus.classes[k] for k in absent)})" in told
    many = {k: named[0] for k in range(5)}
    assert lacking(mc.open_corpus(corpus.path, folds=many))[0].endswith("; and 6 more.")


def test_an_utterance_that_one_fold_forgets_is_told(corpus, tmp_path):
    file = mc.write_folds(corpus, mc.make_folds(corpus, 3, "speaker"), tmp_path / "folds.csv")
    lines = file.read_text().splitlines()
    file.write_text("\n".join(line for line in lines if not line.startswith(f"{corpus.ids[4]},2,")))
    told = "Utterances of other folds that stand in no part: 1 in fold 2."
    assert told in mc.open_corpus(corpus.path, folds=file).findings


@pytest.mark.parametrize("folds", [3, 2.5, ["folds.csv"]])
def test_folds_of_another_kind_are_refused(corpus, folds):
    with pytest.raises(mc.MmerError, match="folds are a file, "):
        mc.open_corpus(corpus.path, folds=folds)


def test_the_seed_and_nothing_else_decides(corpus, data, tmp_path):
    shuffled = np.random.default_rng(1).permutation(120)
    other = mc.open_corpus(write_plain(tmp_path / "p", data, rows=shuffled), tmp_path / "store")
    first = ids(corpus, mc.make_folds(corpus, 5, "speaker", seed=4))
    assert ids(other, mc.make_folds(other, 5, "speaker", seed=4)) == first
    dealt = [ids(one, mc.make_folds(one, 5, None, seed)) for one, seed in ((corpus, 4), (other, 4), (corpus, 5))]
    assert dealt[0] == dealt[1] != dealt[2]


def test_folds_come_back_from_their_file(corpus, tmp_path):
    folds = mc.make_folds(corpus, 3, "speaker")
    file = mc.write_folds(corpus, folds, tmp_path / "folds.csv")
    assert file.read_text().splitlines()[0] == "id,fold,part"
    assert ids(corpus, mc.read_folds(corpus, file)) == ids(corpus, folds)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"k": 11}, "10"),
        ({"k": 2}, "3 or more"),
        ({"k": 3, "by": "mood"}, "speaker"),
        ({"k": None, "by": None}, "with a group"),
        ({"k": 3.0}, "3 or more"),
        ({"k": 3, "by": "dialogue"}, "dialogue"),
    ],
)
def test_folds_that_cannot_be_made_are_refused(tmp_path, settings, message):
    plain = made_up(n=40)
    plain.ids = [f"u{i}" for i in range(40)]  # which tell no dialogue
    with pytest.raises(mc.MmerError, match=message):
        mc.make_folds(mc.open_corpus(write_plain(tmp_path / "p", plain), tmp_path / "s"), **settings)


# ------------------------------------------------------------------------------------------------- partition files


def write_emobox(folder, data, valid=False):
    """The dataset's name before each id; no dev part (MELD has one), no speaker, no text."""
    for k in range(1, 6):
        (place := folder / f"fold_{k}").mkdir(parents=True)
        for part in ("train", "test", *(["valid"] if valid else [])):
            mine = [i for i, s in enumerate(data.session) if _part(s, k, valid) == part]
            rows = [{"key": f"iemocap-{data.ids[i]}", "emo": "neu", "num_frame": 70312.0} for i in mine]
            lines = place / f"iemocap_{part}_fold_{k}.jsonl"
            lines.write_text("\n".join(map(json.dumps, rows)) + "\n")
    return folder


def _part(session, k, valid):
    held = {f"Ses0{k}": "test", f"Ses0{k % 5 + 1}": "valid" if valid else "train"}
    return held.get(session, "train")


def write_s3prl(folder, data):
    """Paths of wavs; their "speaker" is the dialogue's prefix, and wrong."""
    for k in range(1, 6):
        (place := folder / f"Session{k}").mkdir(parents=True)
        for part in ("train", "test"):
            mine = [i for i, s in enumerate(data.session) if _part(s, k, False) == part]
            paths = [f"Session1/sentences/wav/{data.ids[i].rpartition('_')[0]}/{data.ids[i]}.wav" for i in mine]
            rows = [{"path": path, "label": "neu", "speaker": "Ses01F"} for path in paths]
            text = json.dumps({"labels": {"neu": 0}, "meta_data": rows[::-1]})
            (place / f"{part}_meta_data.json").write_text(text)
    return folder


def write_emo_superb(folder, data):
    folder.mkdir()
    for k in range(1, 6):
        names = {"train": "Train", "valid": "Development", "test": "Test"}
        rows = [f"{i}.wav,0.5,01,{names[_part(s, k, True)]}" for i, s in zip(data.ids, data.session, strict=True)]
        text = "\n".join(["FileName,angry,SpkrID,Split_Set", *rows])
        (folder / f"labels_consensus_{k}.csv").write_text(text)
    return folder


def test_emobox_and_s3prl_give_the_same_folds(corpus, data, tmp_path):
    emobox = open_corpus(corpus.path, folds=write_emobox(tmp_path / "iemocap", data))
    s3prl = open_corpus(corpus.path, folds=write_s3prl(tmp_path / "meta_data", data))
    assert emobox.fingerprint == s3prl.fingerprint
    assert [[x.tolist() for x in f] for f in emobox.folds.values()] == [
        [x.tolist() for x in f] for f in s3prl.folds.values()
    ]
    for k, fold in emobox.folds.items():
        assert {corpus.sessions[r] for r in fold.test} == {f"Ses0{k}"}
        assert len({corpus.sessions[r] for r in fold.dev}) == 1  # a session of its own, which train has not
        assert not {corpus.sessions[r] for r in fold.dev} & {corpus.sessions[r] for r in fold.train}
    assert any("no dev part: a fifth of the train part, by session, is dev" in f for f in emobox.findings)


def test_dev_parts_are_taken_where_there_are_some(corpus, data, tmp_path):
    superb = mc.read_folds(corpus, write_emo_superb(tmp_path / "superb", data))
    box = mc.read_folds(corpus, write_emobox(tmp_path / "box", data, valid=True))
    assert ids(corpus, superb) == ids(corpus, box)
    assert {corpus.sessions[r] for r in superb[5].dev} == {"Ses01"}


def test_a_public_partition_may_know_more_and_ours_may_not(corpus, data, tmp_path):
    some = mc.open_corpus(write_plain(tmp_path / "p", data, rows=range(0, 120, 2)), tmp_path / "s")
    emobox = open_corpus(some.path, folds=write_emobox(tmp_path / "iemocap", data))
    assert any("60 of its 120 utterances are not in this corpus" in f for f in emobox.findings)
    file = mc.write_folds(corpus, mc.make_folds(corpus, 3), tmp_path / "folds.csv")
    with pytest.raises(mc.CorpusError, match="60 others"):
        mc.read_folds(some, file)
    (tmp_path / "few.csv").write_text("\n".join(file.read_text().splitlines()[:101]))
    few = open_corpus(corpus.path, folds=tmp_path / "few.csv")
    assert "20 utterances of this corpus stand in none of its folds." in few.findings


def test_ids_of_iemocap_tell_speaker_and_session(tmp_path, data):
    bare = mc.open_corpus(write_plain(tmp_path / "p", data, columns=()), tmp_path / "s")
    assert bare.speakers is None
    assert groups(bare, "speaker").tolist() == data.speaker and groups(bare, "session").tolist() == data.session
    assert groups(bare, "dialogue").tolist() == [i.rpartition("_")[0] for i in data.ids]


# ------------------------------------------------------------------------------------------------- what crosses


def test_what_crosses_the_parts_of_a_fold_is_counted(tmp_path):
    data = made_up(n=60)
    data.text = [f"one two three four {i}" for i in range(60)]
    data.text[0], data.text[1] = "I said: never say it again!", "i said never say it again"
    data.text[2] = data.text[3] = "short one"
    data.part = ["train"] * 20 + ["dev"] * 20 + ["test"] * 20
    order = [0, *range(2, 31), 1, *range(31, 60)]  # the same sentence in train and dev
    data.text = [data.text[i] for i in order]
    corpus = mc.open_corpus(write_plain(tmp_path / "p", data, columns=("text", "speaker", "part")), tmp_path / "s")
    table = crossing(corpus)
    assert table.columns.tolist() == ["fold", "sessions", "speakers", "dialogues", "texts"]
    spoken = {part: {s for s, p in zip(data.speaker, data.part, strict=True) if p == part} for part in PARTS}
    several = [s for s in set(data.speaker) if sum(s in mine for mine in spoken.values()) > 1]
    assert table["speakers"].tolist() == [len(several)]
    assert table["texts"].tolist() == [1]
    assert "1 texts stand in two parts of a fold, at most." in leaks(corpus)
    apart = open_corpus(corpus.path, folds={"k": None, "by": "session"})
    assert crossing(apart)["speakers"].tolist() == [0] * 5


def test_a_corpus_that_names_nothing_has_nothing_to_tell(tmp_path, data):
    data.ids = [f"u{i}" for i in range(120)]
    splits = {1: {part: list(rows) for part, rows in data.parts.items()}}
    corpus = mc.open_corpus(write_amh(tmp_path / "t", data, splits), tmp_path / "s")
    assert crossing(corpus).columns.tolist() == ["fold"] and leaks(corpus) == [] and len(corpus.classes) == len(CLASSES)


def test_without_k_each_group_is_the_test_part_once(corpus, tmp_path):
    (tmp_path / "study.toml").write_text(f"corpus = '{corpus.path}'\nfolds_from = {{by = 'session'}}")
    study = mc.open_study(tmp_path / "study.toml")
    assert [{study.corpus.sessions[r] for r in fold.test} for fold in study.corpus.folds.values()] == [
        {f"Ses0{k}"} for k in range(1, 6)
    ]
    assert "Folds were made here: by = session." in study.corpus.findings
