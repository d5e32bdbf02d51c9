"""What energy models are built from: one frozen, checked, JSON-able record."""

import dataclasses
import json
import math
from typing import Any

from densityjax.models.config import FlowConfig
from densityjax.networks.energy import NORMS, STARTS

BASES = ("normal", "student_t", "flow")
ACTIVATIONS = ("gelu", "silu", "tanh")
FLOOR = 10.0  # nats: the density is at most e^10 times that of a heavy-tailed base, before 1 / Z


@dataclasses.dataclass(frozen=True)
class EnergyConfig:
    """Shape of an energy E = -log q0 + f, q0 a normalised base and f a network.

    Attributes:
      dim: size of one example.
      context_dim: size of the context, zero for none.
      widths: sizes of the network's hidden layers.
      activation: 'gelu', 'silu' or 'tanh'.
      norm: 'none', or 'layer': a layer norm in front of every activation, which bounds f.
      kernel_init: 'xavier' or 'he'.
      max_gain: largest spectral norm of a layer, or None.
      dropout: share of hidden units dropped while training.
      zero_output: start f at zero, so that the energy starts as that of the base.
      base: the law q0, which sets the tails: 'normal', 'student_t' or 'flow'.
      base_scale: scale of a 'normal' or 'student_t' base, in standard deviations of the data; 2 to
        3 confines without pressing.
      base_dof: degrees of freedom of a 'student_t' base.
      floor: f is kept above minus this many nats, smoothly; None for no floor, which a 'normal'
        base alone allows: it falls faster than any network of linear growth can rise. The others
        take 10 nats where it is None.
      flow: the `FlowConfig` of a 'flow' base, of the same sizes; None for the others.

    Raises:
      ValueError: if a field is not accepted; names the field, the value and what is.
    """

    dim: int = 10
    context_dim: int = 0
    widths: tuple[int, ...] = (128, 64, 32)
    activation: str = "silu"
    norm: str = "none"
    kernel_init: str = "xavier"
    max_gain: float | None = None
    dropout: float = 0.0
    zero_output: bool = True
    base: str = "normal"
    base_scale: float = 2.5
    base_dof: float = 5.0
    floor: float | None = None
    flow: FlowConfig | None = None

    def __post_init__(self) -> None:
        """Checks every field; what JSON gives as lists and objects becomes tuples and records."""
        object.__setattr__(self, "widths", tuple(self.widths))
        if isinstance(self.flow, dict):
            object.__setattr__(self, "flow", FlowConfig(**self.flow))
        for name, minimum in {"dim": 1, "context_dim": 0}.items():
            _check_integer(name, getattr(self, name), minimum)
        if not self.widths:
            raise ValueError("widths is (): accepted are one or more positive sizes")
        for width in self.widths:
            _check_integer("widths", width, 1)
        choices = {"activation": ACTIVATIONS, "norm": NORMS, "kernel_init": tuple(STARTS)}
        for name, accepted in {**choices, "base": BASES}.items():
            if getattr(self, name) not in accepted:
                raise ValueError(f"{name} is {getattr(self, name)!r}: accepted are {accepted}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout is {self.dropout!r}: accepted is 0 <= dropout < 1")
        for name in ("base_scale", "base_dof"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(
                    f"{name} is {getattr(self, name)!r}: accepted is a positive number"
                )
        for name in ("max_gain", "floor"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise ValueError(f"{name} is {value!r}: accepted is a positive number or None")
        self._check_base()

    def _check_base(self) -> None:
        """Checks the base, and puts a floor under f where its tails are heavy."""
        if self.base != "normal" and self.floor is None:
            object.__setattr__(self, "floor", FLOOR)
        if (self.flow is not None) != (self.base == "flow"):
            raise ValueError(
                f"flow is {self.flow} and base {self.base!r}: accepted is a FlowConfig for 'flow' "
                "and None for the others"
            )
        if self.flow is not None and (self.flow.dim, self.flow.context_dim) != (
            self.dim,
            self.context_dim,
        ):
            raise ValueError(
                f"flow has dim {self.flow.dim} and context_dim {self.flow.context_dim}: accepted "
                f"are those of the energy, {self.dim} and {self.context_dim}"
            )

    def replace(self, **changes: Any) -> "EnergyConfig":
        """Returns a copy with some fields changed."""
        return dataclasses.replace(self, **changes)

    def to_json(self) -> str:
        """Returns the fields as one JSON object."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> "EnergyConfig":
        """Reads what `to_json` wrote; unknown fields raise ValueError."""
        fields = json.loads(text)
        known = {field.name for field in dataclasses.fields(cls)}
        if unknown := sorted(set(fields) - known):
            raise ValueError(f"fields {unknown} are not of an EnergyConfig: accepted are {known}")
        return cls(**fields)


def _check_integer(name: str, value: Any, minimum: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < minimum:
        raise ValueError(f"{name} is {value!r}: accepted is an integer >= {minimum}")
