"""From bars to decisions with fitted models: one object for experiment, live use and refits.

    bars -> state features -> density -> p-value ──┐
                                                   ├─> signals -> rule -> target weights
    bars -> context -> forecast -> mean, sd, ES ───┘

Other families may stand beside the flow: their densities read the same states, and the
score of the next return and the energy of the state decide by rules of their own. Every row of a
`reading` uses bars up to that row alone; nothing here shifts time.
"""

from densityjax.pipeline.decisions import (
    decide,
    decide_by_energy,
    decide_by_score,
    on_every_bar,
    prices,
    signals,
)
from densityjax.pipeline.reading import (
    COMPANIONS,
    Pipeline,
    Reading,
    load,
    read,
    save,
    vote_of_scores,
    window,
)

__all__ = [
    "COMPANIONS",
    "Pipeline",
    "Reading",
    "decide",
    "decide_by_energy",
    "decide_by_score",
    "load",
    "on_every_bar",
    "prices",
    "read",
    "save",
    "signals",
    "vote_of_scores",
    "window",
]
