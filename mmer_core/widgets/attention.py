"""The panel of notebook 04: where a trained network attends in one utterance."""

from functools import partial
from html import escape

from mmer_core import figures
from mmer_core.explain import block_name, explain
from mmer_core.model import HEADS
from mmer_core.study import Study
from mmer_core.typeset import variants_named
from mmer_core.variant import CHOICES
from mmer_core.widgets.kit import Panel, Picture, Shown, View, choice, refill
from mmer_core.widgets.pickers import VariantPicker, rows
from mmer_core.widgets.training import Training

HEAD_NAMES = {-1: "mean of heads", **{h: f"head {h + 1}" for h in range(HEADS)}}


def attention_panel(study: Study) -> Panel:
    """Pick a finished run, an utterance of its test part, a block and a head; see the attention weights."""
    corpus, picker, view = study.corpus, VariantPicker(study, CHOICES["attention"]), View(saves=1)
    fold, seed = choice("fold", width="8em"), choice("seed", width="8em")
    utterance, block = choice("utterance", width="48em"), choice("block", width="16em")
    head = choice("head", [(name, h) for h, name in HEAD_NAMES.items()])
    training = Training(view, study, view.changed)

    def react() -> partial[Shown]:
        picker.restrict()
        variant = picker.variant()
        one = study.with_variants([variant])
        training.offer(one)
        runs = one.results()
        for box in (fold, seed, utterance, block, head):
            box.disabled = runs.empty
        if runs.empty:
            told = f"{variant.name} has not been trained on the {study.corpus.title}. {study.progress()}"
            return partial(Shown, variants_named(escape(told)))
        refill(fold, {str(k): k for k in runs["fold"].unique().tolist()})
        refill(seed, {str(s): s for s in runs.loc[runs["fold"] == fold.value, "seed"].tolist()})
        said = {r: " ".join(corpus.transcript(r)) for r in corpus.folds[fold.value].test.tolist()}
        named = {f"{corpus.ids[r]}  {corpus.classes[corpus.label[r]]}: {words}"[:100]: r for r, words in said.items()}
        refill(utterance, named)
        refill(block, {block_name(b): b for b in variant.blocks})
        chosen = (fold.value, seed.value, utterance.value, block.value, head.value)
        return partial(attention_shown, one, variant.name, *chosen)

    view.follow((*picker.all, fold, seed, utterance, block, head), react)
    return Panel([rows(*picker.groups), rows(fold, seed, block, head), utterance, training], view)


def attention_shown(study: Study, variant: str, fold: int, seed: int, row: int, block: str, head: int) -> Shown:
    """What a trained network says of one utterance, and where one of its blocks attends (head -1: mean of heads)."""
    explanation = explain(study.model(variant, fold, seed), study.corpus, row, fold)
    predicted, label = escape(explanation.predicted), escape(explanation.label)
    message = f"The network says <b>{predicted}</b> with probability {explanation.probability.max():.2f}; "
    message += f"the label is <b>{label}</b>: {'right' if label == predicted else 'wrong'}."
    title = f"{variant}, fold {fold}, seed {seed}, {explanation.id}\n"
    title += f"{block_name(block)}, {HEAD_NAMES[head]}, {study.corpus.title}"
    one, top = None if head < 0 else head, figures.attention_top(explanation.maps.values())
    draw = partial(figures.attention_map, explanation.maps[block], one, title, top)
    words = f"attention of {variants_named(variant)}: {block_name(block)}, {HEAD_NAMES[head]}"
    name = f"attention_{variant}_fold{fold}_seed{seed}_row{row}_{block}_{'mean' if head < 0 else head + 1}"
    return Shown(message, [Picture(name, draw, words)])
