"""One run from arguments to a folder."""

from densityjax.experiment.arguments import Arguments
from densityjax.experiment.judge import Verdict, judge
from densityjax.experiment.run import run

__all__ = ["Arguments", "Verdict", "judge", "run"]
