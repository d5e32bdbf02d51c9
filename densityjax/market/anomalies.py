"""Anomalies planted into bars, with labels."""

import pandas as pd


def no_anomalies(index: pd.DatetimeIndex) -> pd.DataFrame:
    """Labels of bars without events: kind `"none"`, start and end NaT."""
    never = pd.Series(pd.NaT, index=index).dt.tz_localize("UTC")
    return pd.DataFrame({"kind": "none", "start": never, "end": never}, index=index)
