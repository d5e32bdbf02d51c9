"""How samplers that go through noise end: one sample, and whether it is to be trusted."""

from typing import NamedTuple

from densityjax._typing import Array
from densityjax.samplers.chain import Chain
from densityjax.samplers.denoise import NoisedScoreFn, tweedie


class Draw(NamedTuple):
    """One independent sample.

    Attributes:
      position: [D] the sample.
      num_refused: [] steps that were refused because they were not finite. A draw with any stopped
        on its way: it is not a sample, and the host should say so.
    """

    position: Array
    num_refused: Array


def finish(score_fn: NoisedScoreFn, chain: Chain, sigma: Array, *, final_denoise: bool) -> Draw:
    """Takes the last noise away, if asked to.

    Args:
      score_fn: (x [D], sigma []) -> [D], score of the law with noise of sd sigma.
      chain: a finished chain whose state has a `position`, [D].
      sigma: [] noise that the position still has, units of x.
      final_denoise: whether to take it away by Tweedie's formula.

    Returns:
      The `Draw`.
    """
    position = chain.final_state.position
    if final_denoise:
        position = tweedie(score_fn, position, sigma)
    return Draw(position, chain.num_refused)
