"""What Boltzmann machines are built from: frozen, checked, JSON-able records."""

import dataclasses
import json
from typing import Any

VISIBLES = ("gaussian", "bernoulli")


@dataclasses.dataclass(frozen=True)
class BoltzmannConfig:
    """Shape of a restricted Boltzmann machine.

    Attributes:
      dim: visible units D, the size of one example.
      num_hidden: hidden units H, binary.
      visible: 'gaussian' (real numbers) or 'bernoulli' (zeros and ones).
      initial_sd: sd of the weights at the start; the literature's common .01.
      context_dim: zero: a machine takes no context.

    Raises:
      ValueError: if a field is not accepted; names the field, the value and what is.
    """

    dim: int = 10
    num_hidden: int = 16
    visible: str = "gaussian"
    initial_sd: float = 0.01
    context_dim: int = 0

    def __post_init__(self) -> None:
        """Checks every field."""
        for name in ("dim", "num_hidden"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ValueError(f"{name} is {value!r}: accepted is an integer >= 1")
        if self.visible not in VISIBLES:
            raise ValueError(f"visible is {self.visible!r}: accepted are {VISIBLES}")
        if not 0 < self.initial_sd < float("inf"):
            raise ValueError(f"initial_sd is {self.initial_sd!r}: accepted is a positive number")
        if self.context_dim:
            raise ValueError(f"context_dim is {self.context_dim!r}: accepted is 0")

    def to_json(self) -> str:
        """Returns the fields as one JSON object."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> "BoltzmannConfig":
        """Reads what `to_json` wrote; unknown fields raise ValueError."""
        fields: dict[str, Any] = json.loads(text)
        known = {field.name for field in dataclasses.fields(cls)}
        if unknown := sorted(set(fields) - known):
            raise ValueError(f"fields {unknown} are not of a BoltzmannConfig: accepted are {known}")
        return cls(**fields)
