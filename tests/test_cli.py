"""python -m mmer_core, as a terminal sees it."""

import json
import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from conftest import CHECKOUT

import mmer_core as mc
from mmer_core import stats
from mmer_core.__main__ import _follow, main
from mmer_core.watching import Watched


@pytest.fixture
def declared(tmp_path, demo):
    file = tmp_path / "study.toml"
    file.write_text(
        f'corpus = "{demo.path}"\nvariants = ["self_t", "self_a"]\nfolds = [1, 2, 3]\nseeds = [1]\nledger = "runs"\n'
        "[protocol]\nmax_epochs = 1\n"
    )
    return str(file)


def test_help_names_every_command(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--help"])
    text = capsys.readouterr().out
    assert stop.value.code == 0
    assert all(
        word in text for word in ("demo", "run", "status", "show", "rerun", "export", "publish", "doctor", "study.toml")
    )


def test_run_status_and_export(declared, capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(stats, "twins", lambda twins=stats.twins: twins(20))
    monkeypatch.setattr(stats, "across_calibration", lambda studies, f=stats.across_calibration: f(50))
    assert main(["--study", declared, "status"]) == 0
    assert "0 of 6 runs done" in capsys.readouterr().out
    assert main(["--study", declared, "run", "--variants", "self_t"]) == 0
    assert main(["--study", declared, "status"]) == 0
    assert "3 of 6 runs done" in capsys.readouterr().out
    assert main(["--study", declared, "export", "--to", str(tmp_path / "out")]) == 0
    assert "licence" in capsys.readouterr().out
    assert (tmp_path / "out" / "results.tex").is_file()


def test_mistakes_are_one_line(declared, capsys, tmp_path):
    assert main(["--study", str(tmp_path / "none.toml"), "status"]) == 2
    assert main(["--study", declared, "run", "--variants", "cross_*"]) == 2
    assert main(["--study", declared, "export"]) == 2
    errors = capsys.readouterr().err.strip().splitlines()
    assert len(errors) == 3 and all(line.startswith("mmer: ") for line in errors)


def test_a_bug_shows_its_traceback(declared, monkeypatch, capsys):
    """Only what a user can mend is one line."""

    def bug(*_):
        raise ValueError("a bug")

    monkeypatch.setattr(Watched, "status", bug)
    with pytest.raises(ValueError, match="a bug"):
        main(["--study", declared, "status"])


def test_where_a_number_comes_from_and_whether_it_comes_again(declared, capsys):
    assert main(["--study", declared, "run", "--variants", "self_t"]) == 0
    capsys.readouterr()
    assert main(["--study", declared, "show", "self_t/2/1"]) == 0
    told = capsys.readouterr().out.partition("\n")[2]
    shown = json.loads(told)
    assert (shown["run"]["fold"], shown["run"]["seed"]) == (2, 1) and "curve" not in shown
    assert {"mmer_core", "torch", "processor", "code", "device", "finished"} <= shown["provenance"].keys()
    key = shown["record"].rpartition("_")[2]
    assert main(["--study", declared, "prune", "self_t"]) == 0
    assert re.search(r"The weights of 3 runs are pruned, which frees \d+\.\d MB", capsys.readouterr().out)
    assert main(["--study", declared, "status", "--verify"]) == 0
    told = capsys.readouterr().out
    assert "The weights of 3 runs are pruned" in told and "set aside" not in told
    assert main(["--study", declared, "rerun", key[:8]]) == 0
    assert "The same bits" in capsys.readouterr().out
    assert len([*Path(shown["record"]).parent.glob("*/weights.safetensors")]) == 1
    file = Path(shown["record"]) / "run.json"
    held = json.loads(file.read_text())
    held["curve"][0]["train_loss"] += 1e-9
    held["provenance"]["torch"] = "1.0"
    file.write_text(json.dumps({k: v for k, v in held.items() if k not in ("files", "digest")}))  # as an older record
    assert main(["--study", declared, "rerun", "self_t/2/1"]) == 1
    assert "learning curve\ntorch 1.0 then" in capsys.readouterr().out
    assert main(["--study", declared, "show", "self_t/9/1"]) == 2
    assert "names 0 runs" in capsys.readouterr().err


def test_following_ends_when_all_runs_are_tried(declared, capsys):
    study = mc.open_study(declared)

    def others():
        log = study.ledger.log
        log.say("study started", runs=6)
        for run in study.runs:
            log.say("run failed", run=f"{run}\x1b[2J", key=run.key, told="failed, no luck")

    threading.Timer(1.5, others).start()
    study.ledger.folder.mkdir()
    assert main(["--study", declared, "status", "--follow"]) == 0
    told = capsys.readouterr().out
    assert "run failed: self_t fold 1 seed 1?[2J, failed, no luck" in told and "6 of 6 runs done" in told


def test_following_tells_of_every_set_of_features(declared, tmp_path, capsys):
    """Whether they share a ledger, whose events are told once, or not."""
    study = mc.open_study(declared)
    other = mc.Study(study.corpus, ["self_v"], [1], [1], study.protocol, study.ledger.folder)
    third = mc.Study(study.corpus, ["self_t"], [1], [1], study.protocol, tmp_path / "apart")
    watched = {"a": study, "b": other, "c": third}

    def others():
        for each in watched.values():
            for run in each.runs:
                each.ledger.log.say("run failed", run=f"{run}", key=run.key, told="failed, no luck")

    third.ledger.folder.mkdir()
    study.ledger.folder.mkdir()
    threading.Timer(0.5, others).start()
    _follow(watched)
    told = capsys.readouterr().out
    for name, each in watched.items():
        n = len(each.runs)
        assert f"Features {name}: {n} of {n} runs done" in told
    assert told.count("no luck") == sum(len(each.runs) for each in watched.values())


def test_status_loads_no_torch(declared):
    code = "import sys; from mmer_core.__main__ import main; main(sys.argv[1:]); sys.exit('torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code, "--study", declared, "status"], cwd=CHECKOUT, capture_output=True
    )
    assert done.returncode == 0 and b"0 of 6 runs done" in done.stdout


def test_the_doctor_tells_what_is_there_and_what_is_wrong(declared, tmp_path, capsys):
    assert main(["--study", declared, "doctor"]) == 0
    told = capsys.readouterr().out
    assert all(f"\n{name}: " in told for name in ("torch", "cores", "GPU", "free disk", "study", "processor"))
    assert "Nothing wrong was found." in told
    assert main(["--study", str(tmp_path / "none.toml"), "doctor"]) == 1
    assert "WRONG: " in (told := capsys.readouterr().out) and "none.toml" in told
