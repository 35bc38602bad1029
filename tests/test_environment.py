"""The two descriptions of the environment agree, and the lazy package keeps its promises."""

import ast
import json
import re
import subprocess
import sys
from graphlib import TopologicalSorter

import pytest
from conftest import CHECKOUT

import mmer_core as mc

try:
    import tomllib
except ImportError:
    import tomli as tomllib

PROJECT = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]


def test_environment_yml_installs_what_pyproject_says():
    """conda brings Python and pip; everything else comes from pyproject.toml, so that nothing is declared twice."""
    text = (CHECKOUT / "environment.yml").read_text()
    items = re.findall(r"^ *- (.+)$", text, re.M)
    assert items == [f"python{PROJECT['requires-python']}", "pip", "pip:", "-e .[notebooks]"]
    assert "notebooks" in PROJECT["optional-dependencies"]


def test_every_dependency_has_a_range_and_is_used():
    sources = "\n".join(p.read_text() for p in (CHECKOUT / "mmer_core").rglob("*.py"))
    for dependency in PROJECT["dependencies"]:
        name = re.split(r"[<>=; ]", dependency)[0].replace("scikit-learn", "sklearn")
        assert ">=" in dependency and "<" in dependency.split(";")[0], f"{dependency}: no range"
        assert re.search(rf"\b(import|from) {name}\b", sources), f"{name} is not imported"


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
    """README's map names every room, from the ground up; a module imports only from its own room and those before it.

    Wherever the import stands, inside functions too.
    """
    table = (CHECKOUT / "README.md").read_text().split("## Map of the project")[1].split("\n\n")[1]
    rooms = [name for row in table.splitlines()[2:] for name in re.findall(r"`(\w+)(?:\.py|/)`", row.split("|")[1])]
    package = CHECKOUT / "mmer_core"
    there = {path.stem for path in package.iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file()}
    assert len(set(rooms)) == len(rooms) and set(rooms) == there - {"__init__", "__main__"}
    for path in sorted(package.rglob("*.py")):
        relative = path.relative_to(package)
        room = relative.parts[0].removesuffix(".py")
        if room.startswith("__"):
            continue
        for used in imported_rooms(path):
            assert rooms.index(used) <= rooms.index(room), f"{relative} imports {used}"


def imported_rooms(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "mmer_core":
            names = [alias.name for alias in node.names] if node.module == "mmer_core" else [node.module.split(".")[1]]
            yield from names
        elif isinstance(node, ast.Import):
            yield from (alias.name.split(".")[1] for alias in node.names if alias.name.startswith("mmer_core."))


def test_no_module_of_a_room_imports_itself_in_a_circle():
    """Each one can be the first that is imported."""
    modules = [".".join(p.relative_to(CHECKOUT).with_suffix("").parts) for p in (CHECKOUT / "mmer_core").rglob("*.py")]
    names = [m.removesuffix(".__init__") for m in modules if not m.endswith("__main__")]
    graph = {name: set() for name in names}
    for name in names:
        path = CHECKOUT.joinpath(*name.split("."))
        file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module in graph and node.module != "mmer_core":
                graph[name].add(node.module)
                graph[name] |= {f"{node.module}.{a.name}" for a in node.names if f"{node.module}.{a.name}" in graph}
    for name in names:  # a package's __init__ is its face: what imports a part of it does not need the face first
        graph[name] -= {name.rsplit(".", 1)[0]}
    list(TopologicalSorter(graph).static_order())  # CycleError if there is one


@pytest.mark.parametrize("path", sorted((CHECKOUT / "notebooks").glob("*.ipynb")), ids=lambda p: p.stem)
def test_notebooks_are_short_and_clean(path):
    cells = json.loads(path.read_text())["cells"]
    code = ["".join(c["source"]) for c in cells if c["cell_type"] == "code"]
    assert all(not c["outputs"] and c["execution_count"] is None for c in cells if c["cell_type"] == "code")
    assert sum(len(c.splitlines()) for c in code) < 80
    assert "study = mc.open_study()" in code[0]
    assert any(c["cell_type"] == "markdown" for c in cells)
