"""The rows of the study: which modalities, which attention, which pooling, and which of the published defects."""

import re
from dataclasses import InitVar, dataclass, replace
from functools import cached_property

from mmer_core.corpus import Sizes
from mmer_core.errors import MmerError

CROSS_ORDER = ("a_t", "v_t", "t_v", "a_v", "t_a", "v_a")  # source_target, the order of the published code
PRESETS = {
    "published": dict(mask_padding=False, convolution="time-mixing", standardise_audio=False),
    "corrected": dict(mask_padding=True, convolution="temporal", standardise_audio=True),
}
SWITCH_NAMES = {"mask_padding": "mask", "convolution": "temporal", "standardise_audio": "standardised"}
SUFFIXES: dict[str, dict] = {  # of a variant's name, and what each sets
    "published": {"preset": "published"},
    "corrected": {"preset": "corrected"},
    "nosp": {"pooling": "none"},
    **{word: {switch: PRESETS["corrected"][switch]} for switch, word in SWITCH_NAMES.items()},
}
CHOICES: dict[str, tuple] = {
    **{"attention": ("self", "cross", "both", "uniform"), "pooling": ("statistical", "none")},
    **{switch: (PRESETS["published"][switch], PRESETS["corrected"][switch]) for switch in SWITCH_NAMES},
}


@dataclass(frozen=True)
class Variant:
    """One row of the study: modalities x attention x pooling, and the switches between "published" and "corrected".

    Args:
        modalities: some of "t", "v", "a"; the order does not matter.
        attention: "self" (query = key = value), "cross" (query = target, key = value = source, every ordered pair),
            "both" (all blocks pooled together over shared encoders), or "uniform" (self with frozen equal weights).
        pooling: "statistical" ([std, mean] over the blocks) or "none" (the blocks side by side). One modality: "none".
        mask_padding: leave padding out of GRU, attention and temporal average.
        convolution: "time-mixing" (kernel 1 with time as channels, as published) or "temporal" (kernel 3, stride 2).
        standardise_audio: scale audio by the train part of the fold, valid frames only.
        slots: T' of (video, audio) with the time-mixing convolution; None: 25 T / 32 and T / 2, rounded down.
        preset: "published" or "corrected": what the three switches are unless given.

    MmerError for combinations without a meaning, such as cross-attention with one modality.
    """

    modalities: str
    attention: str = "self"
    pooling: str | None = None
    mask_padding: bool | None = None
    convolution: str | None = None
    standardise_audio: bool | None = None
    slots: tuple[int, int] | None = None
    preset: InitVar[str] = "published"

    def __post_init__(self, preset: str) -> None:
        _one_of("preset", preset, tuple(PRESETS))
        modalities = _in_order(self.modalities)
        pooling = "statistical" if len(modalities) > 1 else "none"
        slots = self.slots and _two_slots(self.slots)
        for setting, default in {**PRESETS[preset], "pooling": pooling}.items():
            if getattr(self, setting) is None:
                object.__setattr__(self, setting, default)
        for setting, value in {"modalities": modalities, "slots": slots}.items():
            object.__setattr__(self, setting, value)
        for setting, choices in CHOICES.items():
            _one_of(setting, getattr(self, setting), choices)
        self._refuse_nonsense()

    def _refuse_nonsense(self) -> None:
        given = self.modalities
        if len(given) == 1 and self.attention in ("cross", "both"):
            raise MmerError(f"{self.attention!r} attention needs two modalities or more; got {given!r}")
        if len(given) == 1 and self.pooling == "statistical":
            raise MmerError(f"statistical pooling needs two modalities or more: one vector has no std; got {given!r}")
        if self.mask_padding and self.convolution == "time-mixing" and given != "t":
            raise MmerError("padding cannot be masked behind a time-mixing convolution: its slots are not times")
        if self.slots is not None and self.convolution == "temporal":
            raise MmerError("slots belong to the time-mixing convolution; the temporal one halves the time")

    @property
    def blocks(self) -> tuple[str, ...]:
        """The attention blocks in their order: "t" for self, "a_t" (source_target) for cross."""
        own = tuple(self.modalities)
        cross = tuple(b for b in CROSS_ORDER if set(b) <= set(self.modalities + "_"))
        return {"self": own, "uniform": own, "cross": cross, "both": own + cross}[self.attention]

    @cached_property
    def name(self) -> str:
        """The one name of this variant, such as self_tva, cross_tva_nosp, uniform_ta_corrected."""
        name = f"{self.attention}_{self.modalities}"
        if self.pooling == "none" and len(self.modalities) > 1:
            name += "_nosp"
        switches = {s: getattr(self, s) for s in SWITCH_NAMES}
        if switches == PRESETS["corrected"]:
            name += "_corrected"
        else:
            name += "".join(f"_{SWITCH_NAMES[s]}" for s, v in switches.items() if v != PRESETS["published"][s])
        return name if self.slots is None else f"{name}_{self.slots[0]}x{self.slots[1]}"

    @classmethod
    def from_name(cls, name: str) -> "Variant":
        """The variant of that name; MmerError if there is none."""
        attention, _, rest = name.partition("_")
        modalities, *suffixes = rest.split("_")
        settings: dict = {}
        for suffix in suffixes:
            if suffix in SUFFIXES:
                settings |= SUFFIXES[suffix]
            elif slots := re.fullmatch(r"(\d+)x(\d+)", suffix):
                settings["slots"] = (int(slots[1]), int(slots[2]))
            else:
                raise MmerError(f"no variant is called {name!r}: {suffix!r} is not understood")
        try:
            return cls(modalities, attention, **settings)
        except MmerError as error:
            raise MmerError(f"no variant is called {name!r}: {error}") from None

    def with_modalities(self, modalities: str) -> "Variant":
        """The same with others of the modalities; one alone has nothing to pool."""
        return replace(self, modalities=modalities, pooling=self.pooling if len(modalities) > 1 else "none")

    def time_slots(self, sizes: Sizes) -> dict[str, int]:
        """T' of each modality: time steps that the encoder sees."""
        video, audio = sizes.video.length, sizes.audio.length
        if self.convolution == "temporal":
            return {"t": sizes.text.length, "v": -(-video // 2), "a": -(-audio // 2)}
        slots = self.slots or (max(1, 25 * video // 32), max(1, audio // 2))
        return {"t": sizes.text.length, "v": slots[0], "a": slots[1]}


def effort(variant: Variant, sizes: Sizes) -> int:
    """How long a run takes beside those of other variants, roughly: the queries and keys of all its attention blocks.

    At IEMOCAP's sizes this ranks the 14 variants as seconds do (Spearman's correlation 0.97, corrected ones 0.93).
    """
    slots = variant.time_slots(sizes)
    return sum(slots[block[0]] + slots[block[-1]] for block in variant.blocks)


def _one_of(what: str, value: object, choices: tuple) -> None:
    if value not in choices:
        raise MmerError(f"{what} is one of {', '.join(map(repr, choices))}; got {value!r}")


def _in_order(given: object) -> str:
    if not isinstance(given, str) or not given or set(given) - set("tva") or len(set(given)) < len(given):
        raise MmerError(f"modalities are different letters of 't', 'v', 'a'; got {given!r}")
    return "".join(m for m in "tva" if m in given)


def _two_slots(given: object) -> tuple[int, ...]:
    slots = tuple(given) if isinstance(given, (tuple, list)) else ()
    if len(slots) != 2 or not all(type(s) is int and s > 0 for s in slots):
        raise MmerError(f"slots are two positive whole numbers (video, audio); got {given!r}")
    return slots


_NAMES = (
    "self_t self_v self_a self_tv self_ta self_va cross_tv cross_ta cross_va "
    "self_tva cross_tva self_tva_nosp cross_tva_nosp both_tva"
)
PAPER_VARIANTS = {name: Variant.from_name(name) for name in _NAMES.split()}
