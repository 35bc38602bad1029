"""python -m mmer_core, as a terminal sees it."""

import pytest

from mmer_core.__main__ import main
from mmer_core.study import Study


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
    assert all(word in text for word in ("demo", "run", "status", "export", "publish", "--study", "study.toml"))


def test_run_status_and_export(declared, capsys, tmp_path):
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

    monkeypatch.setattr(Study, "status", bug)
    with pytest.raises(ValueError, match="a bug"):
        main(["--study", declared, "status"])
