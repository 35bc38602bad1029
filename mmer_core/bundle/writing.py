"""Writing the bundle: all that can be said of a study in one folder, what is left out and why."""

import base64
import contextlib
import io
import json
from collections.abc import Iterable, Iterator
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.image import imread, imsave

from mmer_core import figures, tables
from mmer_core.analyses import Item
from mmer_core.bundle import article, manifest
from mmer_core.bundle import items as registry
from mmer_core.errors import MmerError
from mmer_core.study import Study
from mmer_core.tables import Table
from mmer_core.typeset import html, readable, wrapped

FINER = 5  # times as fine as on a screen are pictures for print


def show(study: Study, name: str) -> Figure | Table | None:
    """One thing of a study for a notebook, and its files in figures/. Texts are printed, or why it cannot be made yet.

    MmerError for a name that no study has.
    """
    items = registry.everything(study)
    if name not in items:
        raise MmerError(f"{study!r} has no {name!r} to show; it has {', '.join(items)}")
    try:
        item = items[name]()
    except MmerError as error:
        item = f"Not yet: {error}"
    if isinstance(item, str):
        tell(readable(item))
        return None
    with _writable(None) as folder:
        _save(item, name, folder)
    return item


def tell(*texts: object) -> None:
    """Print texts, a line each, broken between words, as wide as a notebook is."""
    print(wrapped("\n".join(map(str, texts))))


def gallery(files: Iterable[Path]) -> str:
    """HTML with the pictures among the files of an export, small enough for a notebook, each over its name."""
    shown = ""
    for file in files:
        if file.suffix == ".png":
            pixels, small = imread(file), io.BytesIO()
            high, wide = (n // FINER for n in pixels.shape[:2])
            parts = pixels[: high * FINER, : wide * FINER].reshape(high, FINER, wide, FINER, -1)
            imsave(small, parts.mean((1, 3)), format="png")
            data = base64.b64encode(small.getvalue()).decode()
            name = html(file.stem.replace("_", " "))
            image = f'<img style="max-width: 390px" alt="{name}" src="data:image/png;base64,{data}">'
            shown += f'<figure style="margin: 0 16px 16px 0">{image}<figcaption>{name}</figcaption></figure>'
    return f'<div style="display: flex; flex-wrap: wrap; align-items: flex-end">{shown}</div>'


def export(study: Study, folder: str | Path | None = None, venue: str | None = None) -> list[Path]:
    """Write all that the runs of a study allow so far into a folder, figures/ by default; returns the files.

    Figures, tables and texts; methods.tex, findings.tex, references.bib and article.tex, two pages and an appendix with
    all the rest; report.txt, with what is left out and why; and manifest.json, which ties each file to its runs (see
    `stale`). The same runs give the same files. Files of an earlier export that are made no longer stay where they
    are, and are named on standard output.

    Args:
        venue: figures as wide as it wants them, such as "neurips2024"; an IEEE paper by default.

    MmerError if nothing has been trained, or the folder cannot be written.
    """
    if study.results().empty:
        raise MmerError(f"{study!r}: train something first (python -m mmer_core run)")
    with _writable(folder) as place, figures.venue(venue):
        return _write(study, *_made(study), place)


def _made(study: Study) -> tuple[dict[str, Item], dict[str, str]]:
    """All that can be made, and why the rest cannot, without a path of this machine."""
    items, left_out = {}, {}
    for name, make in registry.contents(study).items():
        try:
            items[name] = make()
        except MmerError as error:
            why = str(error).replace(str(study.ledger.folder), "the ledger")
            left_out[name] = why.replace(str(study.corpus.path), "the corpus")
    return items, left_out


@contextlib.contextmanager
def _writable(folder: str | Path | None) -> Iterator[Path]:
    """The folder, made if need be; MmerError if something cannot be written there."""
    try:
        yield figures.output_folder(folder)
    except OSError as error:
        where = error.filename or folder or "figures"
        raise MmerError(f"{where}: expected a place for the files of a paper, found: {error.strerror}") from None


def _write(study: Study, items: dict[str, Item], left_out: dict[str, str], folder: Path) -> list[Path]:
    before: dict = {}
    with contextlib.suppress(MmerError):  # a first export, or a manifest that this one replaces
        before = manifest.read(folder)["items"]
    verdicts = str(items.get("report") or f"No verdict: {left_out.pop('report')}.")
    left_out.pop("findings", None)
    words = {"methods": article.methods(study), "findings": article.findings(study, verdicts)}
    items |= {name: article.plain(text) for name, text in words.items()}
    missed = ["", "Left out:", *(f"{name}: {why}" for name, why in left_out.items())] if left_out else []
    items["report"] = "\n".join([verdicts, *missed])
    files = {name: _save(item, name, folder) for name, item in items.items()}
    for name, text in words.items():
        files[name].append(_text(folder / f"{name}.tex", article.in_tex(text) + "\n"))
    pictures = {name: float(item.get_figwidth()) for name, item in items.items() if isinstance(item, Figure)}
    drawn = {name: (registry.caption(study, name), inches) for name, inches in pictures.items()}
    printed = [name for name, item in items.items() if isinstance(item, Table)]
    printed.sort(key=lambda name: "{table*}" in (folder / f"{name}.tex").read_text(encoding="utf-8"))
    whole = article.article(study.corpus.title, drawn, printed, words.values())
    cited = article.bibliography(words.values())
    files["article"] = [_text(folder / "article.tex", whole), _text(folder / "references.bib", cited)]
    told = manifest.written(study, items, files, left_out)
    said = _text(folder / manifest.FILE, json.dumps(told, indent=1, ensure_ascii=False) + "\n")
    made = [*(file for some in files.values() for file in some), said]
    left = {name for entry in before.values() for name in entry["files"]} - {file.name for file in made}
    if left := {name for name in left if (folder / name).is_file()}:
        tell(f"Left over from an earlier export, and made no longer: {', '.join(sorted(left))}")
    return made


def _save(item: Item, name: str, folder: Path) -> list[Path]:
    if isinstance(item, Figure):
        return figures.save_figure(item, name, folder)
    if isinstance(item, Table):
        return tables.save_table(item.frame, name, item.caption, folder, item.printed, item.bold)
    return [_text(folder / f"{name}.txt", readable(item) + "\n")]


def _text(file: Path, text: str) -> Path:
    file.write_text(text, encoding="utf-8", newline="\n")
    return file
