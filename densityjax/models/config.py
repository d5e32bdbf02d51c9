"""What a flow is built from: one frozen, checked, JSON-able record."""

import dataclasses
import json
from typing import Any

from densityjax import numerics
from densityjax.networks.conditioners import ACTIVATIONS

CONDITIONERS = ("mlp", "residual")
KINDS = ("coupling", "autoregressive")
TRANSFORMS = ("spline", "affine")
MIXINGS = ("lu", "permutation", "none")
TAILS = ("lambert_w", "gpd", "none")
BASES = ("normal", "student_t")
SPREADS = ("sd", "mad")


@dataclasses.dataclass(frozen=True)
class FlowConfig:
    """Shape of a flow.

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
      mixing: what stands before each layer: 'lu' (learnt), 'permutation' (a fixed reversal) or,
        for autoregressive flows alone, 'none' (one order throughout).
      tail: 'lambert_w' or 'gpd' (heavy tails, learnt per dimension and side) or 'none' (those of
        the base).
      kind: 'coupling' (both directions in one pass) or 'autoregressive' (density in one pass,
        samples in `dim` passes).
      transform: what a layer moves numbers by: 'spline' or 'affine'.
      base: 'normal', or 'student_t' for two and more dimensions: one mixing variable that all
        share, so that extremes come together.
      actnorm: put a learnt affine map, set by the rows of `init`, before each layer.
      whiten: let learnt mixing start by taking the correlation of the rows of `init` out: for few
        dimensions that are alike, as returns of several assets; features fare better without.
      context_spread: what a column of the context is divided by: 'sd', or 'mad', the robust one,
        which leaves values of heavy tails far out, where networks learn slowly: log densities of
        tables came out lower by tenths of a nat with it, those of returns the same.
      num_scales: after each share of the layers but the last, half of the dimensions leave.
      circular_dims: dimensions that are periodic; their base is uniform on the circle.
      periods: period of each of them, in units of the data; 2 pi each where left empty.

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
    kind: str = "coupling"
    transform: str = "spline"
    base: str = "normal"
    actnorm: bool = False
    whiten: bool = False
    context_spread: str = "sd"
    num_scales: int = 1
    circular_dims: tuple[int, ...] = ()
    periods: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        """Checks every field; lists, as JSON gives them, become tuples."""
        for name in ("circular_dims", "periods"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        least = {"dim": 1, "context_dim": 0, "num_layers": 1, "num_bins": 1, "width": 1}
        for name, minimum in {**least, "num_hidden": 1, "num_scales": 1}.items():
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < minimum:
                raise ValueError(f"{name} is {value!r}: accepted is an integer >= {minimum}")
        if not 0 < self.bound < float("inf"):
            raise ValueError(f"bound is {self.bound!r}: accepted is a positive number")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout is {self.dropout!r}: accepted is 0 <= dropout < 1")
        choices = {"conditioner": CONDITIONERS, "mixing": MIXINGS, "tail": TAILS, "kind": KINDS}
        choices |= {"transform": TRANSFORMS, "base": BASES}
        choices |= {"actnorm": (False, True), "whiten": (False, True)}
        choices |= {"context_spread": SPREADS}
        for name, accepted in {**choices, "activation": sorted(ACTIVATIONS)}.items():
            if getattr(self, name) not in accepted:
                raise ValueError(f"{name} is {getattr(self, name)!r}: accepted are {accepted}")
        self._check_layers()
        self._check_circle()

    def _check_layers(self) -> None:
        """Checks what fields ask of each other."""
        is_coupling = self.kind == "coupling"
        if is_coupling and self.mixing == "none":
            raise ValueError(
                "mixing is 'none': accepted is 'lu' or 'permutation' for kind 'coupling', which "
                "would leave half of the dimensions as they are"
            )
        if self.whiten and self.mixing != "lu":
            raise ValueError(f"whiten is True: accepted is False for mixing {self.mixing!r}")
        if not is_coupling and self.conditioner != "residual":
            raise ValueError(
                f"conditioner is {self.conditioner!r}: accepted is 'residual' for {self.kind}"
            )
        if self.dim < 2 ** (self.num_scales - 1):
            raise ValueError(
                f"num_scales is {self.num_scales}: accepted is one that leaves each scale a "
                f"dimension of the {self.dim}"
            )
        needed = self.num_scales * (2 if is_coupling and self.dim > 1 else 1)
        if self.num_layers < needed:
            raise ValueError(
                f"num_layers is {self.num_layers}: accepted is >= {needed} for dim {self.dim} and "
                f"num_scales {self.num_scales}, since one coupling leaves half of the dimensions "
                "as they are"
            )
        if self.base == "student_t" and self.dim - len(self.circular_dims) < 2:
            raise ValueError(
                "base is 'student_t': accepted is 'normal' for fewer than two dimensions that are "
                "not periodic; there the tail layer makes the tails"
            )

    def _check_circle(self) -> None:
        """Checks the periodic dimensions."""
        dims, periods = self.circular_dims, self.periods
        if not set(dims) <= set(range(self.dim)) or len(set(dims)) < len(dims):
            raise ValueError(
                f"circular_dims is {dims}: accepted are different integers from 0 to {self.dim - 1}"
            )
        if periods and len(periods) != len(dims):
            raise ValueError(f"periods is {periods}: accepted is one for each of {dims}, or none")
        if not all(0 < period < float("inf") for period in periods):
            raise ValueError(f"periods is {periods}: accepted are positive numbers")

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
