"""Letters: Times-like as IEEE sets them; what that font lacks is taken from whatever this machine has."""

import functools
import re
import unicodedata
import warnings
from collections.abc import Callable
from pathlib import Path

from matplotlib import font_manager
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.text import Text
from matplotlib.ticker import FixedFormatter, FuncFormatter

FAMILIES = ["STIXGeneral", "DejaVu Sans"]  # both come with matplotlib
MANY = re.compile("cjk|han|fallback|unicode|hei|song|ming|gothic|noto", re.IGNORECASE)  # names of fonts with many
INSTALL = "a Noto font that has them (fonts.google.com/noto; Debian and Ubuntu: apt install fonts-noto-cjk fonts-noto)"


def spell(drawn: Artist) -> None:
    """Give all texts a font for each of their letters; letters that no font has become numbers, with one warning."""
    axes = drawn.findobj(Axes)
    labelled = [axis for ax in axes for axis in (ax.xaxis, ax.yaxis) if has_words(axis)]  # type: ignore[attr-defined]
    ticks = {axis: [label.get_text() for label in axis.get_ticklabels()] for axis in labelled}
    texts = [text for text in drawn.findobj(Text) if text.get_text()]  # type: ignore[attr-defined]
    letters = {c for text in texts for c in text.get_text()}.union(
        "", *(c for ls in ticks.values() for c in "".join(ls))
    )
    families, missing = fonts_for(frozenset(letters) - {"\n"})
    if families != FAMILIES:
        for text in texts:
            text.set_fontfamily(families)
    for text in texts:
        text.set_parse_math(False)
    if missing:
        _say(missing)
        numbered = functools.partial(in_numbers, missing=missing)
        for text in texts:
            text.set_text(numbered(text.get_text()))
        for axis, labels in ticks.items():
            axis.set_ticklabels(list(map(numbered, labels)))


def has_words(axis: Axis) -> bool:
    """Whether its ticks have labels of ours, not numbers that matplotlib writes."""
    return isinstance(axis.get_major_formatter(), (FuncFormatter, FixedFormatter))


def in_numbers(text: str, missing: frozenset[str]) -> str:
    """A text whose letters without a font are Unicode numbers; controls and other invisible ones are left out."""

    def number(run: re.Match) -> str:
        seen = [f"{ord(c):X}" for c in run[0] if unicodedata.category(c) not in ("Cc", "Cf", "Mn")]
        return f"⟨{' '.join(seen)}⟩" if seen else " "

    return re.sub(f"[{re.escape(''.join(sorted(missing)))}]+", number, text) if missing else text


def _say(missing: frozenset[str]) -> None:
    scripts = {unicodedata.name(c, "UNNAMED").split()[0] for c in missing if unicodedata.category(c)[0] not in "CM"}
    if scripts:
        what = ", ".join(sorted(scripts))
        warnings.warn(
            f"No font here has these letters: {what}. They are shown as Unicode numbers; install {INSTALL}.",
            stacklevel=1,
        )


@functools.cache
def fonts_for(letters: frozenset[str]) -> tuple[list[str], frozenset[str]]:
    """Families that have these letters together, ours first, and the letters that none has."""
    families = list(FAMILIES)
    for family in FAMILIES:
        letters -= drawable(font_manager.findfont(font_manager.FontProperties(family=[family])))
    for file in system_fonts() if letters else ():
        if found := letters & drawable(file):
            font_manager.fontManager.addfont(file)  # it may be newer than matplotlib's list of fonts
            families.append(font_manager.get_font(file).family_name)
            letters -= found
    return families, letters


@functools.cache
def drawable(file: str) -> frozenset[str]:
    """The letters of a font; none where it is no font of outlines."""
    try:
        font = font_manager.get_font(file)
        return frozenset(map(chr, font.get_charmap())) if font.scalable else frozenset()
    except (OSError, RuntimeError, ValueError):
        return frozenset()


def system_fonts() -> list[str]:
    """Files of installed fonts: TrueType before others, which PDF readers know less well; those with many letters first."""
    order: Callable[[str], tuple] = lambda file: (
        not file.lower().endswith("ttf"),
        not MANY.search(Path(file).name),
        file,
    )
    return sorted(font_manager.findSystemFonts(), key=order)
