"""What a paper says of a study: methods and findings in words with their references, and an article that holds it all.

Words cite as [@key]; `plain` and `in_tex` say how that is read.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import NamedTuple

from mmer_core.protocol import Protocol
from mmer_core.study import Study
from mmer_core.tables import COLUMN, PAGE
from mmer_core.typeset import readable, tex


class Work(NamedTuple):
    """A work that is cited: how a sentence names it, its kind for BibTeX, and what is known of it."""

    named: str
    kind: str
    fields: dict[str, str]


def _work(named: str, kind: str, author: str, title: str, place: str, year: int, **more: str) -> Work:
    where = {"article": "journal", "inproceedings": "booktitle"}[kind]
    return Work(named, kind, {"author": author, "title": title, where: place, "year": str(year), **more})


WORKS = {
    "rajan2022": _work(
        *("Rajan et al., 2022", "inproceedings", "Rajan, Vandana and Brutti, Alessio and Cavallaro, Andrea"),
        "Is cross-attention preferable to self-attention for multi-modal emotion recognition?",
        "IEEE International Conference on Acoustics, Speech and Signal Processing (ICASSP)",
        *(2022,),
        pages="4693--4697",
        note="arXiv:2202.09263",
    ),
    "busso2008": _work(
        *("Busso et al., 2008", "article", "Busso, Carlos and others"),
        "IEMOCAP: interactive emotional dyadic motion capture database",
        *("Language Resources and Evaluation", 2008),
        volume="42",
        pages="335--359",
    ),
    "vaswani2017": _work(
        *("Vaswani et al., 2017", "inproceedings", "Vaswani, Ashish and others", "Attention is all you need"),
        *("Advances in Neural Information Processing Systems", 2017),
        volume="30",
    ),
    "kingma2015": _work(
        *("Kingma and Ba, 2015", "inproceedings", "Kingma, Diederik P. and Ba, Jimmy"),
        *("Adam: a method for stochastic optimization", "International Conference on Learning Representations", 2015),
    ),
    "nadeau2003": _work(
        *("Nadeau and Bengio, 2003", "article", "Nadeau, Claude and Bengio, Yoshua"),
        *("Inference for the generalization error", "Machine Learning", 2003),
        volume="52",
        pages="239--281",
    ),
    "schuirmann1987": _work(
        *("Schuirmann, 1987", "article", "Schuirmann, Donald J."),
        "A comparison of the two one-sided tests procedure and the power approach for assessing the equivalence of "
        "average bioavailability",
        *("Journal of Pharmacokinetics and Biopharmaceutics", 1987),
        volume="15",
        pages="657--680",
    ),
    "holm1979": _work(
        *("Holm, 1979", "article", "Holm, Sture", "A simple sequentially rejective multiple test procedure"),
        *("Scandinavian Journal of Statistics", 1979),
        volume="6",
        pages="65--70",
    ),
}
CITED = re.compile(r" ?\[@(" + "|".join(WORKS) + r")\]")


def methods(study: Study) -> str:
    """What was done, from the study's own settings; nothing is said that they do not hold."""
    return " ".join([*_corpus(study), *_runs(study), *_protocol(study), *_verdicts(study)])


def findings(study: Study, report: str) -> str:
    """The verdicts of the report as one paragraph, and how many runs they still lack."""
    missing = len(study.missing())
    lacking = [f"{missing} of {len(study.runs)} runs are missing, so all of this is interim."] if missing else []
    return " ".join([*(line[0].upper() + line[1:] for line in report.splitlines()), *lacking])


def _corpus(study: Study) -> list[str]:
    corpus = study.corpus
    source = " [@busso2008]" if "iemocap" in corpus.name.lower() and not corpus.synthetic else ""
    said = [
        "We compare self- and cross-attention [@vaswani2017] between modalities in the network of a published study"
        f" [@rajan2022] on the {corpus.title}{source}: {len(corpus):,} utterances of {len(corpus.classes)} classes."
    ]
    if corpus.synthetic:
        said.append(
            "The corpus is made by a program: results on it show that the code works and say nothing of people."
        )
    return said


def _runs(study: Study) -> list[str]:
    missing, seeds = len(study.missing()), study.seeds
    lacking = f"{missing} of them are missing so far." if missing else "All of them were carried out."
    return [
        f"Each of {_count(study.variants, 'variant')} ({', '.join(study.variants)}) is trained on"
        f" {_count(study.folds, 'fold')} with {_count(seeds, 'seed')} ({', '.join(map(str, seeds))}):"
        f" {_count(study.runs, 'run')}. {lacking}"
    ]


def _protocol(study: Study) -> list[str]:
    ours, theirs = study.protocol, Protocol()
    end = f" or {ours.max_epochs} epochs are over" if ours.max_epochs else ""
    said = [
        f"Adam [@kingma2015] starts at a learning rate of {ours.learning_rate:g}, with {ours.batch_size} utterances a"
        f" batch; the rate is multiplied by {ours.plateau_factor:g} after {ours.plateau_patience} epochs without a"
        f" lower loss on the dev part. Training stops when {ours.stop_patience} epochs bring no higher accuracy on"
        f" dev{end}; the first best epoch is scored once on the test part."
    ]
    changed = [f"{k.replace('_', ' ')} is {v}, not {getattr(theirs, k)}" for k, v in asdict(ours).items()]
    changed = [text for text, (k, v) in zip(changed, asdict(ours).items(), strict=True) if v != getattr(theirs, k)]
    if ours.precision == "float32":
        changed.append("numbers have single precision, not double")
    return [*said, f"This differs from the published protocol: {'; '.join(changed).replace('None', 'unlimited')}."]


def _verdicts(study: Study) -> list[str]:
    metric, noted = study.primary_metric, study.ledger.declared(study.corpus.fingerprint)
    if study.margin is None:
        return [f"The primary metric is {metric}; no margin was declared, so there are no verdicts."]
    reason = study.exploratory()
    when = "both were declared before the first run" if noted and not reason else f"exploratory: {reason}"
    said = [f"The primary metric is {metric}, the margin {100 * study.margin:g} points ({when})."]
    if len(study.folds) > 2:
        said.append(
            "Scores are averaged over the seeds of a fold; the differences of the fold means are judged by Student's t"
            " with their variance raised for overlapping train parts [@nadeau2003]."
        )
    else:
        said.append(
            "With fewer than three folds each verdict, on accuracy, speaks of one split only: its variance is that over"
            " test utterances and seeds, and other train parts are not accounted for."
        )
    return [
        *said,
        "A difference is called different if its 95% interval excludes zero, equivalent if its 90% interval lies within"
        " the margin (two one-sided tests at 5% [@schuirmann1987]), negligible if both hold, and undecided if neither"
        " does; undecided is no evidence of equality. Over several comparisons p is corrected by Holm's method"
        " [@holm1979].",
    ]


def _count(things: Sequence | dict, noun: str) -> str:
    return f"{len(things):,} {noun}{'s' if len(things) != 1 else ''}"


def plain(text: str) -> str:
    return readable(CITED.sub(lambda found: f" ({WORKS[found[1]].named})", text))


def in_tex(text: str) -> str:
    """Words as TeX, with their citations."""
    words = CITED.split(readable(text))
    return "".join(rf"~\cite{{{part}}}" if i % 2 else tex(part) for i, part in enumerate(words))


def bibliography(texts: Iterable[str]) -> str:
    """The works that the texts cite, for BibTeX."""
    entries = []
    for key in _cited(texts):
        fields = "".join(f"  {name} = {{{value}}},\n" for name, value in WORKS[key].fields.items())
        entries.append(f"@{WORKS[key].kind}{{{key},\n{fields}}}\n")
    return "\n".join(entries)


def _cited(texts: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(found[1] for text in texts for found in CITED.finditer(text)))


HEAD = rf"""% An example that holds everything: pdflatex article.tex, twice.
\documentclass[10pt,twocolumn]{{article}}
\usepackage{{graphicx}}
\IfFileExists{{booktabs.sty}}{{\usepackage{{booktabs}}}}{{%
  \newcommand\toprule{{\noalign{{\hrule height 0.8pt\vskip 3pt}}}}
  \newcommand\midrule{{\noalign{{\vskip 2pt\hrule height 0.5pt\vskip 3pt}}}}
  \newcommand\bottomrule{{\noalign{{\vskip 2pt\hrule height 0.8pt}}}}}}
\setlength{{\textwidth}}{{{PAGE:g}pt}}\setlength{{\columnsep}}{{{PAGE - 2 * COLUMN:g}pt}}
\setlength{{\textheight}}{{672pt}}
\setlength{{\hoffset}}{{-1in}}\setlength{{\oddsidemargin}}{{49pt}}
\setlength{{\voffset}}{{-1in}}\setlength{{\topmargin}}{{36pt}}\setlength{{\headheight}}{{0pt}}\setlength{{\headsep}}{{0pt}}
\renewcommand\topfraction{{.95}}\renewcommand\dbltopfraction{{.95}}\renewcommand\textfraction{{.05}}
\renewcommand\floatpagefraction{{.8}}\renewcommand\dblfloatpagefraction{{.8}}
\setcounter{{topnumber}}{{9}}\setcounter{{dbltopnumber}}{{9}}\setcounter{{totalnumber}}{{9}}
\emergencystretch=3em
\pdfsuppressptexinfo=-1\pdftrailerid{{}}\pdfinfo{{/CreationDate (D:20000101000000Z) /ModDate (D:20000101000000Z)}}
"""


def article(title: str, figures: dict[str, tuple[str, float]], tables: Sequence[str], cited: Iterable[str]) -> str:
    """LaTeX of an article of two columns: methods.tex, findings.tex, all figures (caption, inches) and all tables.

    Those of one column come first: TeX fills pages better with floats of one width.
    """
    floats = []
    for name, (caption, inches) in sorted(figures.items(), key=lambda item: item[1][1] * 72.27 > COLUMN + 2):
        width = min(inches * 72.27, PAGE) if inches * 72.27 > COLUMN + 2 else min(inches * 72.27, COLUMN)
        kind = "figure*" if width > COLUMN else "figure"
        floats.append(
            rf"\begin{{{kind}}}[t]\centering\includegraphics[width={width:.1f}pt]{{{name}.pdf}}"
            rf"\caption{{{tex(readable(caption))}}}\label{{fig:{name}}}\end{{{kind}}}"
        )
    floats += [rf"\input{{{name}.tex}}" for name in tables]
    for place in range(15, len(floats), 16):  # TeX holds no more than 18 floats at a time
        floats.insert(place, r"\clearpage")
    items = [f"\\bibitem{{{key}}} {_entry(WORKS[key])}" for key in _cited(cited)]
    return "\n".join(
        [
            HEAD + r"\begin{document}",
            rf"\title{{{tex(f'Self- and cross-attention on the {title}')}}}\author{{}}\date{{}}\maketitle",
            r"\section{Methods}",
            r"\input{methods.tex}",
            r"\section{Findings}",
            r"\input{findings.tex}",
            *floats,
            r"\clearpage",
            r"\begin{thebibliography}{9}",
            *items,
            r"\end{thebibliography}",
            r"\end{document}",
            "",
        ]
    )


def _entry(work: Work) -> str:
    fields = dict(work.fields)
    who = fields.pop("author").replace(" and others", ", et al.").replace(" and ", "; ")
    year, title = fields.pop("year"), fields.pop("title")
    rest = ", ".join(f"pp. {v}" if k == "pages" else f"vol. {v}" if k == "volume" else v for k, v in fields.items())
    return f"{who.rstrip('.')}. {title.rstrip('.')}{'' if title.endswith('?') else '.'} {rest}, {year}."
