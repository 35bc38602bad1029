"""The two descriptions of the environment agree, and the lazy package keeps its promises."""

import importlib
import json
import re
import subprocess
import sys

import pytest
from conftest import CHECKOUT

import mmer_core as mc

try:
    import tomllib
except ImportError:
    import tomli as tomllib

PROJECT = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
IMPORTED_AS = {"scikit-learn": "sklearn", "jinja2": "jinja2"}


def test_environment_yml_installs_what_pyproject_says():
    """conda brings Python and pip; everything else comes from pyproject.toml, so that nothing is declared twice."""
    text = (CHECKOUT / "environment.yml").read_text()
    items = re.findall(r"^ *- (.+)$", text, re.M)
    assert items == [f"python{PROJECT['requires-python']}", "pip", "pip:", "-e .[notebooks]"]
    assert "notebooks" in PROJECT["optional-dependencies"]


def test_every_dependency_has_a_range_and_is_used():
    sources = "\n".join(p.read_text() for p in (CHECKOUT / "mmer_core").rglob("*.py"))
    for dependency in PROJECT["dependencies"]:
        name = re.split(r"[<>=; ]", dependency)[0]
        assert ">=" in dependency and "<" in dependency.split(";")[0], f"{dependency}: no range"
        module = IMPORTED_AS.get(name, name)
        assert re.search(rf"\b(import|from) {module}\b", sources) or name == "jinja2", f"{name} is not imported"


def test_the_public_face():
    for name in mc.__all__:
        assert callable(getattr(mc, name)) or name == "PAPER_VARIANTS"
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        mc.nonsense  # noqa: B018


def test_statistics_and_corpora_need_no_torch():
    code = """
import sys
class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "torch":
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Hidden())
import mmer_core as mc
mc.stats, mc.compare, mc.open_corpus, mc.make_demo_corpus, mc.PAPER_VARIANTS, mc.published_results
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=CHECKOUT)
    assert done.returncode == 0, done.stderr


def test_modules_import_only_downward():
    """The rooms of the design, from the ground up; a module may import only from rooms above it in this list."""
    ground = ["errors", "paths", "metrics", "corpus", "store", "formats", "demo"]
    middle = [
        "variant",
        "protocol",
        "kernels",
        "layers",
        "model",
        "training",
        "stack",
        "ledger",
        "stats",
        "running",
        "declaration",
        "reading",
        "study",
    ]
    rooms = [*ground, *middle, "explain", "figures", "tables", "bundle", "widgets"]
    for path in sorted((CHECKOUT / "mmer_core").rglob("*.py")):
        relative = path.relative_to(CHECKOUT / "mmer_core")
        room = relative.parts[0].removesuffix(".py")
        if room.startswith("__"):
            continue
        typing_only = re.sub(r"if TYPE_CHECKING:\n(    .*\n)+", "", path.read_text())
        for used in re.findall(r"from mmer_core\.(\w+)|from mmer_core import (.+)", typing_only):
            for name in re.findall(r"\w+", used[0] or used[1]):
                assert rooms.index(name) <= rooms.index(room), f"{relative} imports {name}"
                importlib.import_module(f"mmer_core.{name}")


def test_modules_are_small():
    for path in (CHECKOUT / "mmer_core").rglob("*.py"):
        assert len(path.read_text().splitlines()) <= 310, path


@pytest.mark.parametrize("path", sorted((CHECKOUT / "notebooks").glob("*.ipynb")), ids=lambda p: p.stem)
def test_notebooks_are_short_and_clean(path):
    cells = json.loads(path.read_text())["cells"]
    code = ["".join(c["source"]) for c in cells if c["cell_type"] == "code"]
    assert all(not c["outputs"] and c["execution_count"] is None for c in cells if c["cell_type"] == "code")
    assert sum(len(c.splitlines()) for c in code) < 80
    assert "study = mc.open_study()" in code[0]
    assert any(c["cell_type"] == "markdown" for c in cells)
