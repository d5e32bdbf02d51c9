"""One run from arguments to a folder."""

from densityjax.experiment.judge import Verdict, judge
from densityjax.experiment.run import Arguments, run

__all__ = ["Arguments", "Verdict", "judge", "run"]
