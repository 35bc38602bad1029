"""The workbook as a whole: notebooks executed while progress is told, as pages to mail, and their panels as an app."""

import argparse
import asyncio
import importlib.util
import os
import re
import shutil
import signal
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from pathlib import Path

from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, DeadKernelError
from nbconvert import HTMLExporter
from nbformat import NotebookNode, read, v4, write

from mmer_core.errors import MmerError
from mmer_core.paths import root
from mmer_core.study import Study, open_study
from mmer_core.tables import REMINDER
from mmer_core.watching import duration

VIEW = "application/vnd.jupyter.widget-view+json"
EVERY = 15  # seconds between two lines about the same cell
TITLE = "# Is cross-attention preferable to self-attention for multi-modal emotion recognition?"
APP = "import mmer_core as mc\nfrom mmer_core import bundle, figures, stats, widgets\n\n"
APP += "study = mc.open_study()\ncorpus = study.corpus"


class Progress:
    """Tells on lines, for a terminal or a log, where the execution of a notebook is and how far the study got."""

    def __init__(self, name: str, notebook: NotebookNode):
        code = [k for k, cell in enumerate(notebook.cells) if cell.cell_type == "code" and cell.source.strip()]
        self.name, self.number = name, {k: n for n, k in enumerate(code, 1)}
        self.study: Study | None = None
        self.cell, self.source, self.said = 0, "", ""
        self.begun = self.cell_begun = time.monotonic()

    def __enter__(self) -> None:
        self.say("begins")

    def __exit__(self, failed: type | None, *_: object) -> None:
        how = "interrupted" if failed is KeyboardInterrupt else "failed" if failed else "done"
        self.say(f"{how} after {(time.monotonic() - self.begun) / 60:.1f} minutes")

    def executes(self, cell: NotebookNode, cell_index: int) -> None:
        self.cell, self.source, self.cell_begun = self.number[cell_index], cell.source, time.monotonic()
        self.say(self.where())

    def executed(self, cell: NotebookNode, **_: object) -> None:
        """Where a cell has opened the study, to open it here is quick and imports nothing."""
        if "open_study" in cell.source:
            with suppress(MmerError):  # the cell says why
                self.study = open_study()

    def where(self) -> str:
        took = time.monotonic() - self.cell_begun
        what = f"cell {self.cell} of {len(self.number)}" if self.cell else "the kernel starts"
        told = what + (f", for {duration(took)}" if took >= 1 else "")
        if self.study is not None:
            missing, runs = self.study.missing(), len(self.study.runs)
            told += f", {runs - len(missing)} of {runs} runs done"
            if missing and (left := self.study.seconds_left(missing)) is not None:
                told += f", about {duration(left)} left"
        return told

    def say(self, what: str) -> None:
        if what != self.said:
            print(f"{time.strftime('%H:%M:%S')}  {self.name}: {what}", flush=True)
        self.said = what


def execute(file: Path, folder: Path) -> Path:
    """Execute a notebook where it lies and tell how it goes; the copy is kept in a folder, of one that fails, too.

    MmerError says which notebook failed, where, and why.
    """
    notebook, copy = read(file, as_version=4), folder / file.name
    progress = Progress(file.stem, notebook)
    where, quiet = {"metadata": {"path": str(file.parent)}}, ["--IPKernelApp.log_level=ERROR"]
    client = NotebookClient(notebook, kernel_name="python3", resources=where, extra_arguments=quiet)
    client.on_cell_execute, client.on_cell_executed = progress.executes, progress.executed
    try:
        with progress, ThreadPoolExecutor(1) as aside:
            executing = aside.submit(asyncio.run, client.async_execute())
            try:
                while wait([executing], EVERY).not_done:
                    progress.say(progress.where())
            except KeyboardInterrupt:  # the kernel's, too: it ends its workers, and what was shown so far is kept
                if client.km is not None:
                    asyncio.run(client.km.interrupt_kernel())  # type: ignore[arg-type]  # typed as if it were not async
                raise
            executing.result()
    except (CellExecutionError, DeadKernelError) as error:
        raise MmerError(f"{file.name}, cell {progress.cell}: {_failure(progress.source, error)}; see {copy}") from None
    finally:
        notebook.metadata["mmer"] = {"corpus": progress.study.corpus.title if progress.study else ""}
        folder.mkdir(parents=True, exist_ok=True)
        write(notebook, copy)
    return copy


def _failure(source: str, error: CellExecutionError | DeadKernelError) -> str:
    """The line of a cell that failed, and the last line of its error."""
    lines = [line.strip() for line in source.splitlines()]
    if isinstance(error, DeadKernelError):
        return f"{lines[0]!r} .. ended the kernel; was there enough memory?"
    found = re.search(r"Cell In\s?\[\d+\], line (\d+)", re.sub(r"\x1b\[[\d;]*m", "", error.traceback))
    line = lines[int(found[1]) - 1 if found else 0]
    return f"{line!r} failed with {error.ename}: {error.evalue.strip().splitlines()[-1] if error.evalue else ''}"


def write_pages(executed: Sequence[Path], folder: Path) -> Path:
    """Write executed notebooks as pages that need no other file and no network, and an index.html; returns that."""
    pages: dict[str, NotebookNode] = {}
    corpora, contents = [], []
    for file in executed:
        pages[file.stem] = notebook = read(file, as_version=4)
        title, *sections = _headings(notebook) or [file.stem]
        corpora.append(corpus := notebook.metadata.get("mmer", {}).get("corpus", ""))
        outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
        broken = " **(not executed to its end)**" * any(output.output_type == "error" for output in outputs)
        for cell in notebook.cells:
            if "outputs" in cell:  # without what only a kernel can show: a panel has left its still picture, too
                cell.outputs = [output for output in cell.outputs if VIEW not in output.get("data", ())]
        contents.append(f"## [{title}]({file.stem}.html){broken}\n\n{' · '.join(sections)}")
        notebook.metadata.pop("widgets", None)
        notebook.metadata |= {"title": title, "head": f"[mmer](index.html) {corpus and '·'} {corpus}"}
    told = " ".join(f"Carried out on the {corpus}." for corpus in dict.fromkeys(corpora) if corpus)
    told += " A synthetic corpus shows that the workbook works; **it is no evidence about people.**" * ("synth" in told)
    text = "\n\n".join([TITLE, f"{told} What a notebook shows, section by section:", *contents])
    pages["index"] = v4.new_notebook(cells=[v4.new_markdown_cell(text)], metadata={"title": "mmer"})
    exporter = HTMLExporter(template_file=str(Path(__file__).with_name("page.html.j2")), exclude_anchor_links=True)
    folder.mkdir(parents=True, exist_ok=True)
    for name, notebook in pages.items():
        (folder / f"{name}.html").write_text(exporter.from_notebook_node(notebook)[0], encoding="utf-8")
    return folder / "index.html"


def _headings(notebook: NotebookNode) -> list[str]:
    text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    return re.findall(r"^#+ (.+)$", text, re.M)


def write_app(notebooks: Sequence[Path], folder: Path) -> Path:
    """Write one notebook with the panels of others and the text above each; nothing in it trains by itself."""
    cells = [v4.new_code_cell(APP)]
    for file in notebooks:
        notebook, text = read(file, as_version=4), ""
        for cell in notebook.cells:
            text = cell.source if cell.cell_type == "markdown" else text
            if cell.cell_type == "code" and "_panel(" in cell.source:
                cells += [v4.new_markdown_cell(f"# {_headings(notebook)[0]}\n\n{text}"), v4.new_code_cell(cell.source)]
    kernel = {"name": "python3", "language": "python", "display_name": "Python 3"}
    folder.mkdir(parents=True, exist_ok=True)
    write(v4.new_notebook(cells=cells, metadata={"kernelspec": kernel, "title": "mmer"}), folder / "panels.ipynb")
    return folder / "panels.ipynb"


def serve(app: Path) -> None:
    """Become a server of the app for whoever on this machine has its address, which is printed, with a token.

    Its page may ask this machine and no other (voila.json); voila would fetch icons and unknown widgets from elsewhere.
    """
    if not importlib.util.find_spec("voila"):
        raise MmerError("the app needs voila, which `make app` installs: pip install 'voila>=0.5,<0.6'")
    shutil.copyfile(Path(__file__).with_name("voila.json"), app.parent / "voila.json")
    os.chdir(app.parent)  # where voila looks for that file
    os.execv(sys.executable, [sys.executable, "-m", "voila", app.name])


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m mmer_core.workbook", description=__doc__)
    what = "run: notebooks into data/executed; html: executed ones as pages into data/html; app: serve their panels"
    parser.add_argument("command", choices=("run", "html", "app"), help=what)
    parser.add_argument("files", nargs="*", metavar="FILE", type=Path, help="notebooks; all by default")
    options, data = parser.parse_args(arguments), root() / "data"
    source = data / "executed" if options.command == "html" else root() / "notebooks"
    try:
        files = options.files or sorted(source.glob("*.ipynb"))
        if not files:
            raise MmerError(f"no notebook in {source}" + ": make run first" * (options.command == "html"))
        if lost := [file for file in files if not file.is_file()]:
            raise MmerError(f"{lost[0]}: expected a notebook, found nothing")
        if options.command == "run":
            for file in files:
                execute(file, data / "executed")
        elif options.command == "html":
            print(f"{write_pages(files, data / 'html')}\n{REMINDER}")
        else:
            serve(write_app(files, data / "app"))
    except MmerError as error:
        print(f"mmer: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nmmer: interrupted; finished runs are kept", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # that ends workers as an interrupt does
    sys.exit(main())
