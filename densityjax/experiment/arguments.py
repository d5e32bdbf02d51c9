"""The arguments of a run: what is accepted, what the run is called, the line that repeats it."""

import dataclasses
import pathlib
import shlex

from densityjax.market.features import FEATURE_SETS

FAMILIES = ("flow", "score", "energy")  # of models that a run can fit
MAX_SEED = 2**32 - 1  # jax keys take 32 bits of a seed
MAX_FEE_BPS = 10_000  # basis points: all of the notional


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Arguments of a run.

    Attributes:
      dataset: 'nasdaq', 'sp500' or 'simulated'; not read where `bars` is given.
      bars: file of bars, or None.
      symbol: symbol to take from a file that holds several.
      repair: whether to mend bars that strict reading refuses, with a report.
      models: families of models, joined by commas; 'flow' is always among them, for it forecasts.
      out: folder of the run; it must not exist. None names one under `runs`.
      seed: of every random choice, 0 to 2^32 - 1.
      quick: smaller models and fewer epochs, to look at the path and not at the numbers.
      fee_bps: fee of a trade, basis points of its notional.
      state_features: feature set of the density: 'flow', 'score' or 'energy'.

    Raises:
      ValueError: if a value is not accepted; names the argument, the value and what is.
    """

    dataset: str = "nasdaq"
    bars: str | None = None
    symbol: str | None = None
    repair: bool = False
    models: str = "flow,score,energy"
    out: str | None = None
    seed: int = 0
    quick: bool = False
    fee_bps: float = 5.0
    state_features: str = "flow"

    def __post_init__(self) -> None:
        """Checks what can be checked before any work."""
        named = self.models.split(",")
        if "flow" not in named or set(named) - set(FAMILIES) or len(set(named)) < len(named):
            raise ValueError(
                f"models is {self.models!r}: accepted are 'flow' and, after commas, any of "
                f"{', '.join(FAMILIES[1:])}"
            )
        if not 0 <= self.fee_bps < MAX_FEE_BPS:
            raise ValueError(
                f"fee_bps is {self.fee_bps}: accepted is 0 up to {MAX_FEE_BPS:,} basis points"
            )
        if not 0 <= self.seed <= MAX_SEED:
            raise ValueError(f"seed is {self.seed}: accepted is an integer from 0 to {MAX_SEED}")
        if self.state_features not in FEATURE_SETS:
            raise ValueError(
                f"state_features is {self.state_features!r}: accepted are {', '.join(FEATURE_SETS)}"
            )
        if self.bars is None and (self.symbol is not None or self.repair):
            name = "repair" if self.symbol is None else "symbol"
            raise ValueError(f"{name} is given without bars: accepted is with a file of bars only")

    @property
    def companions(self) -> tuple[str, ...]:
        """The families beside the flow, in the order of `FAMILIES`."""
        return tuple(family for family in FAMILIES[1:] if family in self.models.split(","))

    @property
    def name(self) -> str:
        """What the data are called: the data set, or the stem of the file and the symbol."""
        if self.bars is None:
            return self.dataset
        stem = pathlib.Path(self.bars).name.split(".")[0] or "bars"
        return stem if self.symbol is None else f"{stem}-{self.symbol}"

    def command(self) -> str:
        """Returns the line that repeats the run into a new folder, quoted for a shell."""
        words = ["python", "scripts/run_experiment.py"]
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            is_unread = field.name == "dataset" and self.bars is not None
            if value == field.default or field.name == "out" or is_unread:
                continue
            words.append(f"--{field.name.replace('_', '-')}")
            words += [] if value is True else [str(value)]
        return shlex.join(words)
