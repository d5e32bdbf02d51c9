"""The scikit-learn face: batches, NumPy in and out."""

from densityjax.estimators.flow_density import FlowDensity
from densityjax.estimators.return_forecaster import ReturnForecaster, forecast_rows

__all__ = ["FlowDensity", "ReturnForecaster", "forecast_rows"]
