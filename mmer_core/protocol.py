"""How a run is trained: the protocol of the paper and its published code, with their numbers as defaults."""

from dataclasses import dataclass, fields

from mmer_core.errors import MmerError


@dataclass(frozen=True)
class Protocol:
    """The best epoch is the first one with the highest dev accuracy; training stops `stop_patience` epochs after it.

    MmerError for a value of the wrong type or out of range."""

    learning_rate: float = 1e-3  # Adam, otherwise as PyTorch has it
    batch_size: int = 32  # shuffled, the last short batch is kept
    plateau_factor: float = 0.1  # ReduceLROnPlateau on the dev loss
    plateau_patience: int = 10
    stop_patience: int = 10
    max_epochs: int | None = None  # a trial may end earlier; the study does not
    precision: str = "float32"  # or "float64", as in the published code; it starts from the same weights

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name == "precision":
                good, want = value in ("float32", "float64"), "'float32' or 'float64'"
            elif field.name in ("learning_rate", "plateau_factor"):
                good, want = isinstance(value, (int, float)) and 0 < value < 1, "a number between 0 and 1"
            else:
                endless = field.name == "max_epochs" and value is None
                good, want = endless or (type(value) is int and value >= 1), "a whole number from 1 on"
            if not good:
                raise MmerError(f"protocol: {field.name} is {want}; got {value!r}")
