"""The panel of notebook 04: where trained networks attend in one utterance, and what if it were another one."""

from collections.abc import Sequence
from functools import partial
from html import escape

from mmer_core import figures
from mmer_core.explain import Explanation, Stretch, block_name
from mmer_core.figures.parts import COLOURS
from mmer_core.model import HEADS
from mmer_core.study import Study
from mmer_core.typeset import variants_named
from mmer_core.variant import CHOICES, Variant
from mmer_core.widgets import inline, maps
from mmer_core.widgets.kit import Panel, Picture, Shown, View, choice, refill
from mmer_core.widgets.networks import ALL, Asked, Networks, Side
from mmer_core.widgets.pickers import VariantPicker, rows
from mmer_core.widgets.training import Training
from mmer_core.widgets.utterances import Utterances, WhatIf

HEAD_NAMES = {-1: "mean of heads", **{h: f"head {h + 1}" for h in range(HEADS)}, ALL: "all blocks and heads"}


def attention_panel(study: Study) -> Panel:
    """Pick a finished run, or two, and an utterance of its test part; see the attention weights, and what if."""
    networks, picker, view = Networks(study), VariantPicker(study, CHOICES["attention"]), View(saves=2)
    fold, seed, beside = choice("fold", width="7em"), choice("seed", width="7em"), choice("beside", width="16em")
    block, head = choice("block", width="15em"), choice("head", [(name, h) for h, name in HEAD_NAMES.items()], "16em")
    utterances, what_if = Utterances(study.corpus), WhatIf(study.corpus)
    mine = [fold, seed, beside, block, head, *utterances.filters, utterances.chosen, *what_if.all]
    training = Training(view, study, view.changed)

    def react() -> partial[Shown]:
        picker.restrict()
        variant = picker.variant()
        one = study.with_variants([variant])
        training.offer(one)
        runs = one.results()
        for box in mine:
            box.disabled = runs.empty
        if runs.empty:
            told = f"{variant.name} has not been trained on the {study.corpus.title}. {study.progress()}"
            return partial(Shown, variants_named(escape(told)))
        refill(fold, {str(k): k for k in runs["fold"].unique().tolist()})
        refill(seed, {str(s): s for s in runs.loc[runs["fold"] == fold.value, "seed"].tolist()})
        place = (fold.value, seed.value)
        others = [v for v in study.variants.values() if v != variant and networks.trained(v, *place)]
        refill(beside, {"none": "", **{variants_named(v.name): v for v in others}})
        both = (variant, beside.value) if beside.value else (variant,)
        refill(block, {block_name(b): b for b in variant.blocks})
        block.disabled = head.value == ALL
        what_if.offer(both)
        utterances.offer(fold.value, networks.logits(variant, *place), networks.disputed(variant, *place))
        row = utterances.chosen.value
        if row is None:
            return partial(none_shown, networks, (variant, *place))
        asked = Asked(both, *place, row, block.value, head.value, what_if.gone(both, row))
        return partial(attention_shown, networks, asked)

    view.follow((*picker.all, *mine), react)
    find = [rows(fold, seed, beside, block, head), rows(*utterances.filters), utterances.chosen, rows(*what_if.all)]
    return Panel([rows(*picker.groups, training), *find], view)


def none_shown(networks: Networks, run: tuple[Variant, int, int]) -> Shown:
    """What there is to see where no utterance passes the filters: the confusion matrix, to choose another cell."""
    told = "No utterance of the test part passes these filters: choose others, or a cell of the confusion matrix."
    return Shown(told, (), _details(networks, run))


def attention_shown(networks: Networks, asked: Asked) -> Shown:
    """What networks say of one utterance, where their blocks attend in it, and what changes if parts of it are gone."""
    sides, two = [networks.side(variant, asked) for variant in asked.variants], len(asked.variants) > 1
    seen = [(side.variant, side.after, side.gone) for side in sides]
    if asked.gone and not two:
        seen.insert(0, (sides[0].variant, sides[0].before, ()))
    top = figures.attention_top(m for side in sides for e in (side.before, side.after) for m in e.maps.values())
    width, first, classes = 570 if len(seen) == 1 else 290, sides[0].before, networks.study.corpus.classes
    message = " ".join(_answer(side, two) for side in sides)
    message += f" The label is <b>{escape(first.label)}</b>." if two else ""
    if asked.gone:
        message += f"<br>With <b>{_without(asked.gone)}</b>. No recording is like this: what a network does with it is "
        message += f"no evidence of how it hears. {' '.join(_moved(side, two) for side in sides)}"
    here, drawn = (
        (classes.index(first.label), classes.index(first.predicted)),
        [_map(asked, *s, top, width) for s in seen],
    )
    more = dict(sides=sides, maps=drawn, here=here, label=first.label, top=top, width=width, gone=asked.gone)
    details = _details(networks, (asked.variants[0], asked.fold, asked.seed), **more)
    return Shown(message, _to_save(networks.study, asked, seen, top), details)


def _answer(side: Side, named: bool) -> str:
    predicted, label = escape(side.before.predicted), escape(side.before.label)
    who = f"<b>{variants_named(side.variant.name)}</b>" if named else "The network"
    message = f"{who} says <b>{predicted}</b> with probability {side.before.probability.max():.2f}"
    told = "" if named else f"; the label is <b>{label}</b>"
    return f"{message}{told}: {'right' if label == predicted else 'wrong'}."


def _moved(side: Side, named: bool) -> str:
    """What a network says then, and the probability of what it said before."""
    first, said, now = side.before.probability.argmax(), side.before.predicted, side.after.predicted
    was, then = (f"{seen.probability[first]:.2f}" for seen in (side.before, side.after))
    who, says = variants_named(side.variant.name) if named else "It", "still says" if now == said else "now says"
    return f"{who} {says} <b>{escape(now)}</b>: probability of {escape(said)} {was} before, {then} after."


def _without(gone: Sequence[Stretch]) -> str:
    return ", ".join(f"{part} {'muted' if part.last is None else 'deleted'}" for part in gone)


def _block(variant: Variant, block: str) -> str:
    """The block asked for, or one of this variant that asks for the same modality."""
    return min(variant.blocks, key=lambda b: (b != block, b[-1] != block[-1]))


def _map(asked: Asked, variant: Variant, seen: Explanation, gone: Sequence[Stretch], top: float, width: int) -> dict:
    """Title, words and picture of a map, or of all maps, as the page shows them."""
    block = _block(variant, asked.block)
    title = variants_named(variant.name) + (
        ", after" if gone else ", before" if asked.gone and len(asked.variants) == 1 else ""
    )
    if asked.head == ALL:
        return dict(title=title, what=HEAD_NAMES[ALL], src=maps.glance(seen, top, width))
    what = f"{block_name(block)}, {HEAD_NAMES[asked.head]}"
    return dict(title=title, what=what, src=maps.attention(seen.maps[block], asked.head, top, width))


def _to_save(study: Study, asked: Asked, seen: Sequence[tuple], top: float) -> list[Picture]:
    """The same for a paper: a picture of each map, or one of all blocks and heads."""
    pictures = []
    for variant, explanation, gone in seen:
        title = f"{variant.name}, fold {asked.fold}, seed {asked.seed}, {explanation.id}"
        title += f", {_without(gone)}" if gone else ""
        block, head = _block(variant, asked.block), None if asked.head < 0 else asked.head
        name = f"attention_{variant.name}_fold{asked.fold}_seed{asked.seed}_row{asked.row}"
        name += f"_{block}_{'mean' if head is None else head + 1}" if asked.head != ALL else "_all"
        name += f"_without_{'_'.join(map(str, gone)).replace(' ', '')}" if gone else ""
        of = f"{title}\n{block_name(block)}, {HEAD_NAMES[asked.head]}, {study.corpus.title}"
        one = partial(figures.attention_map, explanation.maps[block], head, of, top)
        glance = partial(figures.attention_glance, explanation, f"{title}, {study.corpus.title}", top)
        pictures.append(Picture(name, glance if asked.head == ALL else one))
    return pictures


def _details(networks: Networks, run: tuple[Variant, int, int], **more: object) -> str:
    return inline.TEMPLATES.get_template("attention.html.j2").render(
        classes=networks.study.corpus.classes,
        counts=networks.confusion(*run).tolist(),
        colours=COLOURS,
        name=variants_named,
        tint=inline.tint,
        viridis=maps.VIRIDIS,
        **more,
    )
