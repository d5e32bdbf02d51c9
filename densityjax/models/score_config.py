"""What score models and dual energies are built from: one frozen, checked, JSON-able record."""

import dataclasses
import json
import math
from typing import Any

from densityjax.networks.conditioners import ACTIVATIONS

PARAMETRISATIONS = ("edm", "amplitude", "conservative", "raw", "dual")
NETWORKS = ("residual", "mlp", "multi_scale", "multi_scale_fourier", "single_scale")
CONTINUOUS = ("residual", "mlp", "multi_scale_fourier")  # smooth in the noise level


@dataclasses.dataclass(frozen=True)
class ScoreConfig:
    """Shape of a score model or of a dual energy.

    Attributes:
      dim: size of one example.
      context_dim: size of the context, zero for none.
      parametrisation: how the score is made of the network F, y standardised, v = 1 + sigma^2:
        'edm' (-y / v + F(y / sqrt(v)) / (sigma sqrt(v))), 'amplitude' (F(y / sqrt(v)) / sigma),
        'conservative' (the gradient of -|y|^2 / (2 v) + F(y / sqrt(v)) / sigma, F one number),
        'raw' (F(y)) or, of dual energies alone, 'dual'.
      network: 'residual' or 'mlp' (Fourier features of ln sigma), 'multi_scale' (layer norms and a
        table of levels), 'multi_scale_fourier', or 'single_scale' (the level is not read).
      width: hidden width.
      num_hidden: blocks of the network; hidden layers of an 'mlp'.
      activation: 'gelu', 'relu', 'silu' or 'tanh'; densities need a smooth one.
      dropout: share of hidden units dropped while training.
      sigma_min: smallest noise level, in standard deviations of the data.
      sigma_max: largest noise level, in standard deviations of the data.
      num_levels: rows of the table of a 'multi_scale' network.

    Raises:
      ValueError: if a field is not accepted; names the field, the value and what is.
    """

    dim: int = 10
    context_dim: int = 0
    parametrisation: str = "edm"
    network: str = "residual"
    width: int = 128
    num_hidden: int = 1
    activation: str = "silu"
    dropout: float = 0.0
    sigma_min: float = 0.02
    sigma_max: float = 20.0
    num_levels: int = 10

    def __post_init__(self) -> None:
        """Checks every field."""
        least = {"dim": 1, "context_dim": 0, "width": 1, "num_hidden": 1, "num_levels": 2}
        for name, minimum in least.items():
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < minimum:
                raise ValueError(f"{name} is {value!r}: accepted is an integer >= {minimum}")
        choices = {"parametrisation": PARAMETRISATIONS, "network": NETWORKS}
        for name, accepted in {**choices, "activation": sorted(ACTIVATIONS)}.items():
            if getattr(self, name) not in accepted:
                raise ValueError(f"{name} is {getattr(self, name)!r}: accepted are {accepted}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout is {self.dropout!r}: accepted is 0 <= dropout < 1")
        if not 0 < self.sigma_min < self.sigma_max < math.inf:
            raise ValueError(
                f"sigma_min is {self.sigma_min!r} and sigma_max {self.sigma_max!r}: accepted is "
                "0 < sigma_min < sigma_max"
            )
        self._check_energy()

    def _check_energy(self) -> None:
        """Checks what networks that are differentiated before they are fitted must be."""
        if self.parametrisation not in ("conservative", "dual"):
            return
        if self.activation == "relu":
            raise ValueError(
                f"activation is 'relu': accepted are 'gelu', 'silu' and 'tanh' for parametrisation "
                f"{self.parametrisation!r}, whose network is differentiated twice"
            )
        if self.network == "single_scale" or (
            self.parametrisation == "dual" and self.network not in CONTINUOUS
        ):
            raise ValueError(
                f"network is {self.network!r}: accepted are {CONTINUOUS} for parametrisation "
                f"{self.parametrisation!r}"
            )

    def replace(self, **changes: Any) -> "ScoreConfig":
        """Returns a copy with some fields changed."""
        return dataclasses.replace(self, **changes)

    def to_json(self) -> str:
        """Returns the fields as one JSON object."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> "ScoreConfig":
        """Reads what `to_json` wrote; unknown fields raise ValueError."""
        fields = json.loads(text)
        known = {field.name for field in dataclasses.fields(cls)}
        if unknown := sorted(set(fields) - known):
            raise ValueError(f"fields {unknown} are not of a ScoreConfig: accepted are {known}")
        return cls(**fields)
