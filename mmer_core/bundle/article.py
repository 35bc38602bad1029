"""What a paper says of a study: methods and findings in words with their references, and an article that holds it all.

Words cite as [@key]; `plain` and `in_tex` say how that is read.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from importlib.resources import files

import jinja2

from mmer_core.protocol import Protocol
from mmer_core.study import Study
from mmer_core.tables import COLUMN, PAGE
from mmer_core.typeset import readable, template, tex


def _read(name: str) -> str:
    return (files("mmer_core.bundle") / name).read_text("utf-8")


BIBTEX = _read("references.bib")
WORKS = {found[1]: found[0] for found in re.finditer(r"@\w+\{(\w+),.*?\n\}\n", BIBTEX, re.S)}
METHODS = jinja2.Template(re.sub(r"\s*\n\s*", " ", _read("methods.txt.j2")).strip(), undefined=jinja2.StrictUndefined)
FIELDS = {
    key: {name: " ".join(value.split()) for name, value in re.findall(r"(\w+) = \{(.*?)\}", work, re.S)}
    for key, work in WORKS.items()
}
# What an article of two pages shows, the last one of each kind that there is; the rest is its appendix.
PAGES = (r"attention_\w+", r"results(_\w+)?", "comparisons", "forest")
CITED = re.compile(r" ?\[@(" + "|".join(WORKS) + r")\]")


def methods(study: Study) -> str:
    """What was done, from the study's own settings; nothing is said that they do not hold."""
    ours, theirs = asdict(study.protocol), asdict(Protocol(precision="float64"))
    changed = "; ".join(f"{k.replace('_', ' ')} is {v}, not {theirs[k]}" for k, v in ours.items() if v != theirs[k])
    changed, noted = changed.replace("None", "unlimited"), study.ledger.declared(study.corpus.fingerprint)
    return METHODS.render(study=study, count=_count, changed=changed, noted=noted, reason=study.exploratory())


def _count(things: Sequence | dict, noun: str) -> str:
    return f"{len(things):,} {noun}{'s' if len(things) != 1 else ''}"


def findings(study: Study, report: str) -> str:
    """The verdicts of the report as one paragraph, and how many runs they still lack."""
    missing = len(study.missing())
    lacking = [f"{missing} of {len(study.runs)} runs are missing, so all of this is interim."] if missing else []
    return " ".join([*(line[0].upper() + line[1:] for line in report.splitlines()), *lacking])


def plain(text: str) -> str:
    return readable(CITED.sub(lambda found: f" ({_named(found[1])})", text))


def in_tex(text: str) -> str:
    """Words as TeX, with their citations."""
    words = CITED.split(readable(text))
    return "".join(rf"~\cite{{{part}}}" if i % 2 else tex(part) for i, part in enumerate(words))


def bibliography(texts: Iterable[str]) -> str:
    """The works that the texts cite, for BibTeX."""
    return "\n".join(WORKS[key] for key in _cited(texts))


def _cited(texts: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(found[1] for text in texts for found in CITED.finditer(text)))


def _named(key: str) -> str:
    """How a sentence names a work."""
    names = [author.split(",")[0] for author in FIELDS[key]["author"].split(" and ")]
    who = " and ".join(names) if len(names) < 3 and "others" not in names else f"{names[0]} et al."
    return f"{who}, {FIELDS[key]['year']}"


def _entry(key: str) -> str:
    """A work in a list of references."""
    author, title, place, *rest = FIELDS[key].items()
    who = author[1].replace(" and others", ", et al.").replace(" and ", "; ").rstrip(".")
    more = [{"volume": "vol. ", "pages": "pp. "}.get(name, "") + value for name, value in rest]
    return f"{who}. {title[1]}{'' if title[1].endswith('?') else '.'} {', '.join([place[1], *more])}."


def article(title: str, figures: dict[str, tuple[str, float]], tables: Sequence[str], cited: Iterable[str]) -> str:
    """LaTeX of an article of two pages of two columns, with methods.tex, findings.tex and what `PAGES` names.

    All other figures (each with its caption and width in inches) and tables follow in its appendix; there those of one
    column come first: TeX fills pages better with floats of one width.
    """
    wide = {name: inches * 72.27 > COLUMN + 2 for name, (_, inches) in figures.items()}
    floats = {}
    for name, (caption, inches) in sorted(figures.items(), key=lambda figure: wide[figure[0]]):
        kind, most = ("figure*", PAGE) if wide[name] else ("figure", COLUMN)
        picture = rf"\includegraphics[width={min(inches * 72.27, most):.1f}pt]{{{name}.pdf}}"
        told = rf"\caption{{{tex(readable(caption))}}}\label{{fig:{name}}}"
        floats[name] = rf"\begin{{{kind}}}[t]\centering{picture}{told}\end{{{kind}}}"
    floats |= {name: rf"\input{{{name}.tex}}" for name in tables}
    kinds = [[name for name in floats if re.fullmatch(kind, name)] for kind in PAGES]
    first = [floats.pop(names[-1]) for names in kinds if names]
    rest = list(floats.values())
    for place in range(15, len(rest), 16):  # TeX holds no more than 18 floats at a time
        rest.insert(place, r"\clearpage")
    works = [rf"\bibitem{{{key}}} {_entry(key)}" for key in _cited(cited)]
    known = dict(page=f"{PAGE:g}", gap=f"{PAGE - 2 * COLUMN:g}", first=first, rest=rest, works=works)
    title = tex(f"Self- and cross-attention on the {title}")
    return template("bundle/article.tex.j2").render(known, title=title)


HEAD = article("", {}, [], []).partition(r"\begin{document}")[0]  # of an article of one's own
