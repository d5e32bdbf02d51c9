"""What joint energy models are built from: one frozen, checked, JSON-able record."""

import dataclasses
import json
from typing import Any

SMOOTH = ("gelu", "silu", "tanh")  # the network is differentiated twice


@dataclasses.dataclass(frozen=True)
class JointEnergyConfig:
    """Shape of a joint energy model.

    Attributes:
      dim: size of one example.
      num_classes: classes K, at least 2.
      widths: sizes of the hidden layers.
      tau: sd of the normal base law, in standard deviations of the data; it sets the far tails.
      activation: 'gelu', 'silu' or 'tanh'.
      context_dim: zero: the model takes no context.

    Raises:
      ValueError: if a field is not accepted; names the field, the value and what is.
    """

    dim: int = 10
    num_classes: int = 2
    widths: tuple[int, ...] = (128, 64)
    tau: float = 3.0
    activation: str = "silu"
    context_dim: int = 0

    def __post_init__(self) -> None:
        """Checks every field; lists, as JSON gives them, become tuples."""
        object.__setattr__(self, "widths", tuple(self.widths))
        for name, least in (("dim", 1), ("num_classes", 2)):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise ValueError(f"{name} is {value!r}: accepted is an integer >= {least}")
        if not self.widths or min(self.widths) < 1:
            raise ValueError(f"widths is {self.widths}: accepted are one or more positive sizes")
        if not 0 < self.tau < float("inf"):
            raise ValueError(f"tau is {self.tau!r}: accepted is a positive number")
        if self.activation not in SMOOTH:
            raise ValueError(f"activation is {self.activation!r}: accepted are {SMOOTH}")
        if self.context_dim:
            raise ValueError(f"context_dim is {self.context_dim!r}: accepted is 0")

    def to_json(self) -> str:
        """Returns the fields as one JSON object."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> "JointEnergyConfig":
        """Reads what `to_json` wrote; unknown fields raise ValueError."""
        fields: dict[str, Any] = json.loads(text)
        known = {field.name for field in dataclasses.fields(cls)}
        if unknown := sorted(set(fields) - known):
            raise ValueError(f"fields {unknown} are unknown: accepted are {sorted(known)}")
        return cls(**fields)
