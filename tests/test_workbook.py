"""The workbook as a whole: what `make run` tells, what `make html` writes, and what `make app` serves."""

import base64
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import lab
import pytest
from conftest import CHECKOUT
from matplotlib.figure import Figure
from nbconvert.preprocessors import ExecutePreprocessor
from nbformat import read, v4, write

import mmer_core as mc
from mmer_core import widgets, workbook

VIEW = "application/vnd.jupyter.widget-view+json"
PANEL = """
from IPython.display import HTML, display
import ipywidgets
display(ipywidgets.HTML("alive"))
display(HTML("<div class='mmer-still'>a still</div>"))
print("done")
"""


@pytest.fixture
def root(tmp_path, monkeypatch):
    """An empty workbook."""
    for folder in ("data", "notebooks"):
        (tmp_path / folder).mkdir()
    monkeypatch.setenv("MMER_ROOT", str(tmp_path))
    return tmp_path


def notebook(file, *cells):
    """A notebook of sources; those that begin with # are text."""
    made = [v4.new_markdown_cell(c) if c.startswith("# ") else v4.new_code_cell(c) for c in cells]
    write(v4.new_notebook(cells=made), file)
    return str(file)


def outputs(nb):
    """All outputs, without the ids that a widget gets anew each time."""
    found = json.dumps([cell.outputs for cell in nb.cells if cell.cell_type == "code"], sort_keys=True)
    return re.sub(r'"model_id": "\w+"', "", found)


def needs_browser(*more):
    reason = lab.lacking() or next(
        (f"not installed: {name}" for name in more if not importlib.util.find_spec(name)), ""
    )
    if reason:
        (pytest.fail if os.environ.get("MMER_BROWSER") == "required" else pytest.skip)(reason)


@contextmanager
def browser_page():
    from playwright.sync_api import expect, sync_playwright

    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=lab.CHROMIUM, args=lab.FLAGS, timeout=1000 * lab.PATIENCE)
        try:
            page = browser.new_page(viewport={"width": 1280, "height": 800})
            page.set_default_timeout(1000 * lab.PATIENCE)
            expect.set_options(timeout=1000 * lab.PATIENCE)
            yield page
        finally:
            browser.close()


def test_a_run_tells_where_it_is_and_what_failed(root, guessed, demo, monkeypatch, capsys):
    study = mc.Study(demo, ["self_t", "self_a"], [1], [1, 2, 3], ledger=root / "ledger")
    study.select("self_t").run(ThreadPoolExecutor(1), progress=False)
    monkeypatch.setattr(workbook, "EVERY", 0.2)
    monkeypatch.setattr(workbook, "open_study", lambda: study)
    good = notebook(root / "notebooks" / "1.ipynb", "# One", "'open_study'", "import time\ntime.sleep(1.5)", PANEL)
    notebook(root / "notebooks" / "2.ipynb", "print('kept')", "def f():\n    return 1 / 0\n\nf()", "print('never')")

    assert workbook.main(["run"]) == 2
    told, error = capsys.readouterr()
    lines = [re.sub(r"^\d\d:\d\d:\d\d  ", "", line) for line in told.splitlines()]
    runs = r"3 of 6 runs done, about \d+ seconds? left"
    wanted = ["1: begins", "1: cell 1 of 3", f"1: cell 2 of 3, {runs}", f"1: cell 2 of 3, for 1 second, {runs}"]
    wanted += [f"1: cell 3 of 3, {runs}", r"1: done after 0\.\d minutes"]
    wanted += ["2: begins", "2: cell 1 of 3", "2: cell 2 of 3"]
    found = [next((n for n, line in enumerate(lines) if re.fullmatch(what, line)), None) for what in wanted]
    assert None not in found and found == sorted(found) and len(lines) == len(set(lines)), lines
    assert lines[0] == "1: begins" and re.fullmatch(r"2: failed after 0\.\d minutes", lines[-1])
    assert "2.ipynb, cell 2: 'f()' failed with ZeroDivisionError: division by zero; see" in error
    assert "Traceback" not in error

    failed = read(root / "data" / "executed" / "2.ipynb", as_version=4)
    assert failed.cells[0].outputs[0].text == "kept\n" and failed.cells[1].outputs[0].ename == "ZeroDivisionError"
    copy = read(root / "data" / "executed" / "1.ipynb", as_version=4)
    same, _ = ExecutePreprocessor().preprocess(read(good, as_version=4), {"metadata": {"path": str(root)}})
    assert outputs(copy) == outputs(same) and "alive" in str(copy.metadata.widgets) and VIEW in outputs(copy)
    assert copy.metadata.mmer == {"corpus": "demo corpus (synthetic)"}
    assert not any(cell.get("outputs") for cell in read(good, as_version=4).cells)


def test_a_kernel_that_ends_and_a_line_that_is_no_python_are_told(root):
    file = notebook(root / "1.ipynb", "import os\nos._exit(1)")
    with pytest.raises(mc.MmerError, match=r"1\.ipynb, cell 1: 'import os' .. ended the kernel"):
        workbook.execute(root / "1.ipynb", root / "copies")
    notebook(root / "1.ipynb", "a = 1\nb = = 2")
    with pytest.raises(mc.MmerError, match=r"1\.ipynb, cell 1: 'b = = 2' failed with SyntaxError: invalid syntax"):
        workbook.execute(root / "1.ipynb", root / "copies")
    assert (root / "copies" / "1.ipynb").is_file() and file


def test_pages_need_no_network_and_no_kernel(root):
    needs_browser()
    from playwright.sync_api import expect

    picture = base64.b64encode(widgets.png(Figure((6, 2)))).decode()
    view = v4.new_output("display_data", {VIEW: {"model_id": "1"}, "text/plain": "A panel without its kernel"})
    still = f"<div class='mmer-still'>self_tva <img alt='' src='data:image/png;base64,{picture}'></div>"
    wide = f"<table><tr>{'<td>a_long_name_of_a_column</td>' * 40}</tr></table>"
    shown = [v4.new_output("display_data", {"text/html": html, "text/plain": "A still"}) for html in (still, wide)]
    long = v4.new_output("stream", text="word" * 200)
    code = v4.new_code_cell("study.secret()", outputs=[view, *shown, long])
    cells = [v4.new_markdown_cell("# 2. A title\n\nText"), code, v4.new_markdown_cell("## A section")]
    metadata = {"mmer": {"corpus": "demo corpus (synthetic)"}, "widgets": {"application/x": {"state": "all of it"}}}
    (root / "data" / "executed").mkdir()
    write(v4.new_notebook(cells=cells, metadata=metadata), root / "data" / "executed" / "02.ipynb")
    error = v4.new_code_cell("1 / 0", outputs=[v4.new_output("error", ename="E", evalue="", traceback=["told"])])
    write(v4.new_notebook(cells=[error]), root / "data" / "executed" / "03.ipynb")
    assert workbook.main(["html"]) == 0

    index = root / "data" / "html" / "index.html"
    for file in index.parent.iterdir():
        text = file.read_text()
        assert not re.search(r"https?:|<script|<link|@import|url\(|widget", text), file
    with browser_page() as page:
        asked = []
        page.on("request", lambda request: asked.append(request.url))
        page.goto(index.as_uri())
        expect(page.locator("main")).to_contain_text("It is no evidence about people".lower())
        expect(page.locator("main")).to_contain_text("demo corpus (synthetic)")
        expect(page.locator("main")).to_contain_text("A section")
        expect(page.locator("h2", has_text="not executed to its end")).to_contain_text("03")
        page.get_by_role("link", name="2. A title").click()
        expect(page.locator(".mmer-still")).to_be_visible()
        image = page.locator(".mmer-still img")
        assert image.evaluate("image => image.complete && image.naturalWidth > 500 && image.clientWidth > 500")
        expect(page.get_by_text("A panel without its kernel")).to_have_count(0)
        expect(page.get_by_text("study.secret()")).to_be_hidden()
        assert page.evaluate("document.documentElement.scrollWidth") <= 1280
        page.get_by_text("code", exact=True).click()
        expect(page.get_by_text("study.secret()")).to_be_visible()
        page.get_by_role("link", name="mmer").click()
        outside = [url for url in asked if not url.startswith(("data:", index.parent.as_uri()))]
        assert len(asked) >= 3 and not outside


def test_pages_before_a_run(root, capsys):
    assert workbook.main(["html"]) == 2
    assert "make run first" in capsys.readouterr().err


def test_the_app_has_all_panels_and_trains_nothing(tmp_path):
    notebooks = sorted((CHECKOUT / "notebooks").glob("*.ipynb"))
    text = read(workbook.write_app(notebooks, tmp_path), as_version=4)
    code = [cell.source for cell in text.cells if cell.cell_type == "code"]
    assert "open_study()" in code[0] and not any(".run(" in source for source in code)
    panels = re.findall(r"widgets\.(\w+_panel)\(", "".join(code[1:]))
    assert set(panels) >= {"corpus_panel", "results_panel", "attention_panel", "comparison_panel"}
    titles = [cell.source.splitlines()[0] for cell in text.cells if cell.cell_type == "markdown"]
    assert len(titles) == len(panels) >= 5 and titles[0] == "# 1. The corpus"


def test_the_app_is_alive_and_closed_to_others(root, guessed):
    needs_browser("voila")
    from playwright.sync_api import expect

    (root / "data" / "study.toml").write_text('corpus = "demo"\nvariants = ["self_va", "self_tva"]\nseeds = [1]\n')
    mc.open_study().run(ThreadPoolExecutor(1), progress=False)
    shutil.copy(CHECKOUT / "notebooks" / "02_self_attention.ipynb", root / "notebooks")
    with served(root) as address, browser_page() as page:
        home = address.split("?")[0]
        assert [status(home + path) for path in ("", "voila/files/panels.ipynb")] == [302, 403]
        answered = []
        page.on("requestfinished", lambda request: answered.append(request.url))
        page.goto(address, wait_until="commit")
        text = page.get_by_role("button", name="text", exact=True)
        text.wait_for()
        for path in ("api/kernels", "api/kernelspecs", "api/sessions", "api/contents"):
            assert page.request.get(home + path).status in (403, 404), path
        message = page.locator(".mmer-panel .mmer-message")
        expect(message).to_contain_text("Self T+V+A: 5 of 5 runs")
        text.click()
        expect(message).to_contain_text("Self V+A: 5 of 5 runs")
        assert "results_panel" not in page.content() and page.evaluate("document.documentElement.scrollWidth") <= 1280
        assert len(answered) > 10 and all(url.startswith((home, "data:", "blob:")) for url in answered)


def test_the_lab_is_closed_to_others(tmp_path):
    """As `make lab` starts it, without the browser."""
    if not shutil.which("make"):
        pytest.skip("no make")
    outer = ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")  # of the make that tests
    alone = {name: value for name, value in os.environ.items() if name not in outer}
    asked = subprocess.run(["make", "-n", "lab"], cwd=CHECKOUT, capture_output=True, text=True, check=True, env=alone)
    command = asked.stdout.splitlines()[-1].split()
    assert command[1:4] == ["-m", "jupyter", "lab"]
    own = {"JUPYTER_CONFIG_DIR": str(tmp_path), "JUPYTER_RUNTIME_DIR": str(tmp_path), "JUPYTER_DATA_DIR": str(tmp_path)}
    log = tmp_path / "lab.log"
    with log.open("w") as out:
        root = [] if hasattr(os, "getuid") and os.getuid() else ["--allow-root"]
        lab = subprocess.Popen(
            [sys.executable, *command[1:], "--no-browser", "--port=0", *root],
            **{"cwd": CHECKOUT, "stdout": out, "stderr": out, "env": {**os.environ, **own}},
        )
    try:
        until = time.monotonic() + 60
        while not (found := re.search(r"http://127\.0\.0\.1:(\d+)/lab\S*\?token=\w{16,}", log.read_text())):
            assert lab.poll() is None and time.monotonic() < until, log.read_text()
            time.sleep(0.2)
        contents = f"http://127.0.0.1:{found[1]}/api/contents"
        assert status(contents) == 403
        assert status(f"{contents}?{found[0].partition('?')[2]}") == 200
        assert not re.search(r"http://(?!127\.0\.0\.1|localhost)", log.read_text())
    finally:
        lab.terminate()
        lab.wait(30)


def status(url):
    class Stay(urllib.request.HTTPRedirectHandler):
        def redirect_request(self, *_):
            return None

    direct = urllib.request.ProxyHandler({})
    try:
        with urllib.request.build_opener(Stay, direct).open(url, timeout=30) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        error.close()
        return error.code


@contextmanager
def served(root):
    """The address that `make app` prints."""
    with open(root / "app.log", "w") as log:
        command = [sys.executable, "-m", "mmer_core.workbook", "app"]
        homes = {f"JUPYTER_{what}_DIR": str(root / what) for what in ("CONFIG", "RUNTIME", "DATA")}  # not the user's
        environment = {**os.environ, **homes, "IPYTHONDIR": str(root / "ipython")}
        app = subprocess.Popen(command, stdout=log, stderr=log, cwd=root, env=environment)
    try:
        last = time.monotonic() + lab.PATIENCE
        while not (found := re.search(r"http://127\.0\.0\.1:\d+/\?token=\w+", (root / "app.log").read_text())):
            assert time.monotonic() < last and app.poll() is None, (root / "app.log").read_text()
            time.sleep(0.1)
        yield found[0]
    finally:
        app.terminate()
        try:
            app.wait(lab.PATIENCE / 4)
        except subprocess.TimeoutExpired:
            app.kill()
            app.wait()
