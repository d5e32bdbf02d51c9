"""Samplers: `init` and `step` of each, one driver for all, and what says how far chains came.

Chains on a log density or its score: `langevin`, `mala`, `hmc`; on two layers: `gibbs`. Through
noise, on a score with a level: `annealed`, `reverse_diffusion`, `conditional`. `chain` drives them,
`schedules` holds levels and step sizes, `replay` chains between steps of a fit, `denoise`
Tweedie's formula, `diagnostics` R-hat and effective sample sizes.
"""

from densityjax.samplers import (
    annealed,
    chain,
    conditional,
    denoise,
    diagnostics,
    gibbs,
    hmc,
    langevin,
    mala,
    replay,
    reverse_diffusion,
    schedules,
)
from densityjax.samplers.chain import Chain
from densityjax.samplers.draw import Draw

__all__ = [
    "Chain",
    "Draw",
    "annealed",
    "chain",
    "conditional",
    "denoise",
    "diagnostics",
    "gibbs",
    "hmc",
    "langevin",
    "mala",
    "replay",
    "reverse_diffusion",
    "schedules",
]
