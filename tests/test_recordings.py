"""Where utterances are heard and seen: tiny releases in the exact layout, with their traps; expectations by hand."""

import pytest

pytest.importorskip("av")

from releases import APPLE, film, tone, write_iemocap, write_meld

import mmer_core as mc
from mmer_core.extract import iemocap
from mmer_core.extract.recordings import find


@pytest.fixture(scope="module")
def release(tmp_path_factory):
    return write_iemocap(tmp_path_factory.mktemp("licensed"), films=False)


def by_id(found):
    return {r.id: r for r in found.recordings}


# -------------------------------------------------------------------------------------------------- IEMOCAP


@pytest.mark.parametrize("above", [False, True])
def test_the_release_is_found_itself_or_in_its_folder(release, above):
    found = find(release.parent if above else release)
    assert found.name == "IEMOCAP" and found.classes == ["ang", "exc", "hap", "sad", "fru", "sur", "neu"]
    assert len(found.recordings) == 6 * 14  # six dialogues, each of the seven classes twice
    assert {r.facts["label"] for r in found.recordings} == set(found.classes)


def test_counts_are_told_beside_the_published_ones(release):
    *told, last, differ = find(release).told
    assert last == (
        "96 utterances with a label (published: 10039), 84 of the seven classes (published: 7487), "
        "60 of four, happy and excited as one (published: 5531)."
    )
    assert differ.startswith("Other than published: ang 12 (1103), exc 12 (1041), hap 12 (595)")
    assert "12 utterances of other labels are left out: 6 fea, 6 xxx." in told
    assert "6 lines of transcriptions have neither label nor sound (such as _FXX0)." in told
    assert "6 files are not UTF-8, and were read as cp1252." in told
    assert "6 dialogues have no film." in told


def test_the_speaker_is_the_last_letter_and_sits_on_the_side_of_the_markers(release):
    found = by_id(find(release))
    sides = {
        **{"Ses01F_impro01_F000": ("Ses01F", "left"), "Ses01F_impro01_M000": ("Ses01M", "right")},
        **{"Ses01M_script01_1b_F000": ("Ses01F", "right"), "Ses01M_script01_1b_M000": ("Ses01M", "left")},
        **{"Ses02M_impro02a_M001": ("Ses02M", "left"), "Ses02F_script02_2_M001": ("Ses02M", "right")},
    }
    for name, side in sides.items():
        assert (found[name].facts["speaker"], found[name].half) == side
    assert len({r.facts["speaker"] for r in found.values()}) == 6


def test_an_utterance_has_its_own_label_text_times_and_sound(release):
    found = by_id(find(release))
    one = found["Ses01M_script01_1b_M001"]  # the fourth: sad
    assert one.facts == {
        **{"label": "sad", "text": "Well: word3 [LAUGHTER] sad again.", "speaker": "Ses01M", "session": "Session1"},
        **{"dialogue": "Ses01M_script01_1b", "start": "2.8600", "end": "3.4200"},
    }
    assert one.sound == release / "Session1/sentences/wav/Ses01M_script01_1b/Ses01M_script01_1b_M001.wav"
    assert one.sound_span is None and one.video is None
    assert found["Ses01F_impro01_F000"].facts["text"] == "Café, she said."
    assert found["Ses01F_impro01_F000"].facts["label"] == "ang"  # not what a single annotator says


def test_films_belong_to_dialogues(tmp_path):
    release = write_iemocap(tmp_path, films=False)
    film(avi := release / "Session2/dialog/avi/DivX/Ses02M_impro02a.avi", 2.0)
    (avi.parent / "._Ses02M_impro02a.avi").write_bytes(APPLE)
    found = by_id(find(release))
    assert found["Ses02M_impro02a_F000"].video == avi
    assert found["Ses02M_impro02a_F000"].video_span == (1.0, 1.5)
    assert found["Ses02F_script02_2_F000"].video is None


def change(file, old, new):
    file.write_bytes(file.read_bytes().replace(old, new))


def test_what_is_odd_is_counted(tmp_path):
    release = write_iemocap(tmp_path, films=False)
    wav = release / "Session1/sentences/wav/Ses01F_impro01"
    tone(wav / "Ses01F_impro01_F099.wav", 100, 0.1)
    (wav / "Ses01F_impro01_F000.wav").unlink()
    said = release / "Session1/dialog/transcriptions/Ses01F_impro01.txt"
    change(said, b"Ses01F_impro01_M000 [", b"A note without form [")
    found = find(release)
    assert "1 recordings have no label, and are left out." in found.told
    assert "1 lines of transcriptions have another form, and are not read." in found.told
    assert "1 utterances have no text." in found.told
    assert by_id(found)["Ses01F_impro01_F000"].sound is None  # its label is there: whoever extracts is told
    assert by_id(found)["Ses01F_impro01_M000"].facts["text"] == ""


@pytest.mark.parametrize("old, new, told", [
    (b"\tang\t", b"\tang ", r"Ses01F_impro01\.txt line 3: expected \[start - end\] utterance"),
    (b"[1.0000 - ", b"[one - ", r"line 3: expected \[start - end\]"),
    (b"\tSes01F_impro01_F000\t", b"\tSes01F_impro02_F000\t", r"line 3: .*of this dialogue"),
    (b"\tSes01F_impro01_M000\t", b"\tSes01F_impro01_F000\t", r"each utterance once, found Ses01F_impro01_F000 again"),
    (b"\tSes01F_impro01_F000\t", b"\tSes01F_impro01_../x\t", r"line 3"),
])  # fmt: skip
def test_a_label_file_that_cannot_be_understood_is_named(tmp_path, old, new, told):
    release = write_iemocap(tmp_path, films=False)
    change(release / "Session1/dialog/EmoEvaluation/Ses01F_impro01.txt", old, new)
    with pytest.raises(mc.CorpusError, match=told):
        find(release)


def test_a_release_may_lack_sessions_but_not_all_labels(tmp_path):
    release = write_iemocap(tmp_path, films=False)
    (release / "Session2").rename(tmp_path / "elsewhere")
    assert len(find(release).recordings) == 4 * 14
    for file in release.rglob("EmoEvaluation/*.txt"):
        file.unlink()
    with pytest.raises(mc.CorpusError, match="expected utterances in Session"):
        find(release)


def test_all_published_counts_agree():
    assert sum(iemocap.PUBLISHED.values()) == iemocap.SEVEN == 7487
    assert sum(iemocap.PUBLISHED[label] for label in iemocap.FOUR) == iemocap.OF_FOUR == 5531


# ----------------------------------------------------------------------------------------------------- MELD


def test_meld_has_its_parts_and_its_clips(tmp_path):
    root = write_meld(tmp_path)
    (root / "dev_splits_complete" / "dia1_utt0.mp4").unlink()
    found = find(root)
    assert found.name == "MELD" and len(found.recordings) == 13 and found.classes[0] == "neutral"
    one = by_id(found)["train/dia1_utt1"]
    assert one.facts == {
        **{"label": "sadness", "text": "Line 3", "speaker": "Joey", "dialogue": "train/dia1", "part": "train"},
        **{"start": "973.059", "end": "974.731"},
    }
    assert one.sound == one.video == root / "train_splits" / "dia1_utt1.mp4" and one.sound_span is None
    assert by_id(found)["test/dia0_utt0"].facts["text"] == "It’s “fine”, no?"
    assert by_id(found)["dev/dia1_utt0"].sound is None
    assert "train: 7 utterances (published: 9989)." in found.told
    assert "1 clips belong to no line." in found.told


def test_lines_of_an_older_encoding_leave_the_others_as_they_are(tmp_path):
    root = write_meld(tmp_path)
    change(root / "train_sent_emo.csv", b"Line 3", "café".encode())
    change(root / "train_sent_emo.csv", b"Line 2", b"it\x92s")
    found = find(root)
    texts = {r.facts["text"] for r in found.recordings}
    assert {"café", "it’s"} <= texts  # one line of the train part is in the older encoding anyway
    assert "2 lines of train_sent_emo.csv are not UTF-8, and were read as cp1252." in found.told


def test_folders_that_are_called_like_files_are_none(tmp_path):
    root = write_meld(tmp_path / "meld")
    (root / "a" / "train_sent_emo.csv").mkdir(parents=True)
    release = write_iemocap(tmp_path / "iemocap", films=False)
    (release / "Session1/dialog/EmoEvaluation/bad.txt").mkdir()
    assert len(find(root).recordings) == 13
    n = len(find(release).recordings)
    file = release / "Session1/dialog/transcriptions/Ses01F_impro01.txt"
    text = next(r.facts["text"] for r in find(release).recordings if r.id == "Ses01F_impro01_F000")
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes())
    again = find(release)
    assert len(again.recordings) == n
    assert next(r.facts["text"] for r in again.recordings if r.id == "Ses01F_impro01_F000") == text != ""


@pytest.mark.parametrize("old, new, told", [
    (b',"00:16:14,731"', b"", r"line 5: expected a time hh:mm:ss,ms, found ''"),
    (b"sadness,neutral,1,1", b"sadness,neutral,01,1", r"line 5: expected an emotion of .*, and two numbers"),
    (b"sadness", b"sorrow", r"train_sent_emo\.csv line 5: expected an emotion of"),
    (b"00:16:13,059", b"later", r"line 5: expected a time hh:mm:ss,ms, found 'later'"),
    (b"Emotion", b"Feeling", r"train_sent_emo\.csv: expected a table with the columns"),
    (b"Line 3\",Joey,sadness,neutral,1,1", b"Line 3\",Joey,sadness,neutral,1,0", "each dialogue and utterance once"),
])  # fmt: skip
def test_a_table_of_meld_that_cannot_be_understood_is_named(tmp_path, old, new, told):
    root = write_meld(tmp_path)
    change(root / "train_sent_emo.csv", old, new)
    with pytest.raises(mc.CorpusError, match=told):
        find(root)


# ---------------------------------------------------------------------------------------------------- a folder


def folder(root, table):
    for name in ("a", "deep/b", "deep/er/c"):
        tone(root / f"{name}.wav", 200, 0.1)
    (root / "._a.wav").write_bytes(APPLE)
    (root / "utterances.csv").write_text(table)
    return root


def test_recordings_are_found_by_id_anywhere_or_by_file(tmp_path):
    table = (
        "id,label,start,end,file\na,x,0,9,\nb,y,,,\ndeep/er/c,x,,,\nd,y,0.5,1.5,deep/b.wav\ne,x,,,deep/b.wav\nf,y,,,\n"
    )
    root = folder(tmp_path / "mine", table)
    (root / "b.mp4").write_bytes(b"")
    found = by_id(find(root))
    assert found["a"].sound == root / "a.wav" and found["a"].sound_span is None  # by its id: all of it
    assert found["b"].sound == root / "deep" / "b.wav" and found["b"].video == root / "b.mp4"
    assert found["deep/er/c"].sound == root / "deep" / "er" / "c.wav"
    assert found["d"].sound == root / "deep" / "b.wav" and found["d"].sound_span == (0.5, 1.5)
    assert found["e"].sound_span is None and found["f"].sound is None
    assert found["a"].facts == {"label": "x", "start": "0", "end": "9"} and find(root).name == "mine"


def test_a_table_may_lie_elsewhere(tmp_path):
    root = folder(tmp_path / "mine", "id,label\na,x\n")
    (root / "utterances.csv").rename(tmp_path / "own.csv")
    assert [r.id for r in find(root, tmp_path / "own.csv").recordings] == ["a"]
    assert find(root, tmp_path / "own.csv").told == ["2 recordings belong to no row of own.csv."]


@pytest.mark.parametrize("row, told", [
    ("../a,x,,,", "id of its own that names a file in the folder, found '../a'"), ("/a,x,,,", "id of its own"),
    ("a,x,,,\na,x,,,", "line 3: expected an id of its own"),
    ("d,x,,,../../etc/passwd.wav", "file: a path in the folder"),
    ("d,x,1,0,a.wav", "start and end: seconds"), ("d,x,soon,1,a.wav", "start and end: seconds"),
    ("d,x,nan,1,a.wav", "start and end: seconds"), ("d,x,1,,a.wav", "start and end: seconds"),
    ("d,x,,,utterances.csv", "file: a recording"), ("twice,x,,,", "one recording of this id"),
])  # fmt: skip
def test_a_row_that_cannot_be_meant_is_named(tmp_path, row, told):
    root = folder(tmp_path / "mine", f"id,label,start,end,file\n{row}\n")
    tone(root / "twice.wav", 200, 0.1)
    tone(root / "deep" / "er" / "twice.wav", 200, 0.1)
    (root / "twice.wav").rename(root / "deep" / "twice.wav")
    with pytest.raises(mc.CorpusError, match=told):
        find(root)


def test_a_link_that_leaves_the_folder_is_refused(tmp_path):
    tone(tmp_path / "secret.wav", 200, 0.1)
    root = folder(tmp_path / "mine", "id,label,file\na,x,link.wav\n")
    (root / "link.wav").symlink_to(tmp_path / "secret.wav")
    with pytest.raises(mc.CorpusError, match="file: a path in the folder"):
        find(root)


@pytest.mark.parametrize("make", [lambda p: None, lambda p: p.mkdir(), lambda p: p.write_text("x")])
def test_what_is_no_source_is_told(tmp_path, make):
    make(tmp_path / "source")
    with pytest.raises(mc.CorpusError):
        find(tmp_path / "source")
