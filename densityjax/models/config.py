"""What a spline flow is built from: one frozen, checked, JSON-able record."""

import dataclasses
import json
from typing import Any

from densityjax import numerics
from densityjax.networks.conditioners import ACTIVATIONS

CONDITIONERS = ("mlp", "residual")
MIXINGS = ("lu", "permutation")
TAILS = ("lambert_w", "none")


@dataclasses.dataclass(frozen=True)
class FlowConfig:
    """Shape of a neural spline flow.

    Attributes:
      dim: size of one example.
      context_dim: size of the context, zero for none.
      num_layers: spline layers.
      num_bins: bins of each spline.
      bound: half-width of the spline interval, in standard deviations of the base.
      width: hidden width of the conditioner.
      num_hidden: hidden layers of an 'mlp', blocks of a 'residual' conditioner.
      conditioner: 'residual' or 'mlp'.
      activation: of the conditioner: 'gelu', 'relu', 'silu' or 'tanh'.
      dropout: share of hidden units dropped while training.
      mixing: what stands before each coupling: 'lu' (learnt) or 'permutation' (fixed).
      tail: 'lambert_w' (heavy tails, learnt per dimension and side) or 'none' (Gaussian ones).

    Raises:
      ValueError: if a field is not accepted; names the field, the value and what is.
    """

    dim: int = 10
    context_dim: int = 0
    num_layers: int = 4
    num_bins: int = 8
    bound: float = numerics.SPLINE_BOUND
    width: int = 64
    num_hidden: int = 2
    conditioner: str = "residual"
    activation: str = "silu"
    dropout: float = 0.0
    mixing: str = "lu"
    tail: str = "lambert_w"

    def __post_init__(self) -> None:
        """Checks every field."""
        least = {"dim": 1, "context_dim": 0, "num_layers": 1, "num_bins": 1, "width": 1}
        for name, minimum in {**least, "num_hidden": 1}.items():
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < minimum:
                raise ValueError(f"{name} is {value!r}: accepted is an integer >= {minimum}")
        if self.dim > 1 and self.num_layers < 2:
            raise ValueError(
                f"num_layers is {self.num_layers}: accepted is >= 2 for dim {self.dim}, since one "
                "layer leaves half of the dimensions as they are"
            )
        if not 0 < self.bound < float("inf"):
            raise ValueError(f"bound is {self.bound!r}: accepted is a positive number")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout is {self.dropout!r}: accepted is 0 <= dropout < 1")
        choices = {"conditioner": CONDITIONERS, "mixing": MIXINGS, "tail": TAILS}
        for name, accepted in {**choices, "activation": sorted(ACTIVATIONS)}.items():
            if getattr(self, name) not in accepted:
                raise ValueError(f"{name} is {getattr(self, name)!r}: accepted are {accepted}")

    def replace(self, **changes: Any) -> "FlowConfig":
        """Returns a copy with some fields changed."""
        return dataclasses.replace(self, **changes)

    def to_json(self) -> str:
        """Returns the fields as one JSON object."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> "FlowConfig":
        """Reads what `to_json` wrote; unknown fields raise ValueError."""
        fields = json.loads(text)
        known = {field.name for field in dataclasses.fields(cls)}
        if unknown := sorted(set(fields) - known):
            raise ValueError(f"fields {unknown} are not of a FlowConfig: accepted are {known}")
        return cls(**fields)
