"""Rows and columns of frames, with the types that readers of the code may rely on."""

from typing import cast

import numpy as np
import pandas as pd

from densityjax._typing import NumpyArray


def part(frame: pd.DataFrame, name: str) -> pd.DataFrame:
    """Returns the rows whose column `split` is `name`."""
    return cast(pd.DataFrame, frame[frame["split"] == name])


def values(frame: pd.DataFrame, column: str) -> NumpyArray:
    """Returns a column as [N] float64."""
    return cast(pd.Series, frame[column]).to_numpy(np.float64)
