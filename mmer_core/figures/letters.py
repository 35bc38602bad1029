"""Letters: Times-like as IEEE sets them; what that font lacks is taken from whatever this machine has."""

import functools
import itertools
import re
import unicodedata
import warnings

from matplotlib import font_manager
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.text import Text
from matplotlib.ticker import FixedFormatter, FuncFormatter

from mmer_core.typeset import variants_named

TIMES = ["STIXGeneral", "Times New Roman", "Times", "Liberation Serif"]  # the first comes with matplotlib and is taken;
FAMILIES = ["serif", "DejaVu Sans"]  # the others are for an SVG on a machine without it. DejaVu Sans comes along, too
MANY = re.compile("cjk|han|fallback|unicode|hei|song|ming|gothic|noto", re.IGNORECASE)  # names of fonts with many


def spell(drawn: Artist) -> None:
    """Names of variants as people read them, and a font for each letter of all texts.

    For letters that no font has matplotlib draws boxes, with one warning of ours; for controls and marks, spaces.
    """
    axes: list = drawn.findobj(Axes)
    ticks = {
        axis: [label.get_text() for label in axis.get_ticklabels()]  # this writes them, so that they are found below
        for axis in itertools.chain(*((ax.xaxis, ax.yaxis) for ax in axes))
        if has_words(axis)
    }
    texts: list = drawn.findobj(lambda artist: isinstance(artist, Text) and bool(artist.get_text()))
    families, missing = fonts_for(frozenset("".join(variants_named(text.get_text()) for text in texts)) - {"\n"})
    blank = {ord(c): " " for c in missing if unicodedata.category(c).startswith(("C", "Mn"))}  # no letters for an SVG
    if scripts := sorted({unicodedata.name(c, "unnamed").split()[0] for c in missing if ord(c) not in blank}):
        warnings.filterwarnings("ignore", f"Glyph ({'|'.join(str(ord(c)) for c in missing)}) .*missing from font")
        told = f"No font here has these letters: {', '.join(scripts)}. Boxes stand for them; install a Noto font that"
        warnings.warn(f"{told} has them (Debian, Ubuntu: apt install fonts-noto-cjk fonts-noto).", stacklevel=1)
    for text in texts:
        text.set(fontfamily=list(dict.fromkeys([*text.get_fontfamily(), *families])), parse_math=False)
        text.set_text(variants_named(text.get_text()).translate(blank))
    for axis, labels in ticks.items():
        if (spelt := [variants_named(label).translate(blank) for label in labels]) != labels:
            axis.set_ticklabels(spelt)


def has_words(axis: Axis) -> bool:
    """Whether its ticks have labels of ours, not numbers that matplotlib writes."""
    return isinstance(axis.get_major_formatter(), (FuncFormatter, FixedFormatter))


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
    except (OSError, RuntimeError):
        return frozenset()


def system_fonts() -> list[str]:
    """Installed fonts, TrueType first, as PDF readers know it best; of these, those with many letters first."""
    files = font_manager.findSystemFonts()
    return sorted(files, key=lambda file: (not file.lower().endswith("ttf"), not MANY.search(file), file))
