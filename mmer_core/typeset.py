"""Text for print: names as people read them, and the one way in which any text goes into TeX, Markdown or HTML.

Whatever stands in a corpus or a study (a name, a class, a transcript) is text: nothing in it reaches TeX as a command.
"""

import csv
import html as _html
import re
import textwrap
import unicodedata
from importlib.resources import files

import jinja2

from mmer_core.metrics import METRICS
from mmer_core.variant import SWITCH_NAMES

SUFFIXES = {name: name for name in SWITCH_NAMES.values()}
SUFFIXES |= {"mask": "masked", "nosp": "no SP", "corrected": "corrected"}
VARIANT = re.compile(rf"\b(self|cross|both|uniform)_([tva]{{1,3}})((?:_(?:{'|'.join(SUFFIXES)}|\d+x\d+))*)(?!\w)")
# Letters that TeX has commands for, or that would be commands; [, ] and * would be options of a \\ before them.
TEX = dict(csv.reader((files("mmer_core") / "tex.csv").read_text("utf-8").splitlines()))
ACCENTS = {"\u0300": "`", "\u0301": "'", "\u0302": "^", "\u0303": "~", "\u0304": "=", "\u0307": ".", "\u0308": '"'}
ACCENTS |= {"\u030a": "r", "\u030b": "H", "\u030c": "v", "\u0306": "u", "\u0327": "c"}
MARKDOWN = {c: f"\\{c}" for c in r"\|*_`<>[]#$~&"}

_ENVIRONMENT = jinja2.Environment("<%", "%>", "<<", ">>", keep_trailing_newline=True)  # TeX has braces of its own


def template(name: str) -> jinja2.Template:
    """A template of this package for print: "table.tex.j2", "bundle/article.tex.j2"."""
    return _ENVIRONMENT.from_string((files("mmer_core") / name).read_text("utf-8"))


def readable(text: object) -> str:
    """Names of variants and metrics as people read them ("Self T+V (no SP)", "balanced accuracy"), and a real minus."""
    text = re.sub("|".join(METRICS), lambda found: found[0].replace("_", " "), variants_named(str(text)))
    text = re.sub(r" - (?=(?:Self|Cross|Both|Uniform) )", " − ", text)
    return re.sub(r"(?<![\w.,-])-(?=[\d.])", "−", text)


def variants_named(text: str) -> str:
    """Only the names of variants are made readable; all else may be of a corpus."""
    return VARIANT.sub(_variant, text)


def _variant(found: re.Match) -> str:
    name = f"{found[1].capitalize()} {'+'.join(found[2].upper())}"
    more = [SUFFIXES.get(suffix, suffix.replace("x", "×") + " slots") for suffix in found[3].split("_")[1:]]
    return f"{name} ({', '.join(more)})" if more else name


def tex(text: object) -> str:
    """Any text for TeX, on one line, in ASCII: what pdflatex cannot set becomes its code point, such as [U+4E2D]."""
    return re.sub(r"([-'])(?=\1)", r"\1{}", "".join(map(_in_tex, one_line(text))))  # two of them are no dash, no quote


def _in_tex(c: str) -> str:
    if c in TEX or " " <= c <= "~":
        return TEX.get(c, c)
    parts = unicodedata.normalize("NFD", c)
    if parts[0].isascii() and parts[0].isalpha() and parts[1:] in ACCENTS:
        return f"\\{ACCENTS[parts[1:]]}{{{parts[0]}}}"
    return f"{{[}}U+{ord(c):04X}{{]}}"


def markdown(text: object) -> str:
    """Any text for Markdown, on one line, as it is: nothing in it is markup."""
    return "".join(MARKDOWN.get(c, c) for c in one_line(text))


def html(text: object) -> str:
    return _html.escape(one_line(text))


def one_line(text: object) -> str:
    """Without line breaks; a letter and its accent are one character."""
    return re.sub(r"\s+", " ", unicodedata.normalize("NFC", str(text)))


def wrapped(text: str, width: int = 100) -> str:
    """Lines broken between words, as many characters as fit beside a notebook's margin."""
    return "\n".join(textwrap.fill(line, width, break_on_hyphens=False) for line in text.splitlines())
