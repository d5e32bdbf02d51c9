"""The scikit-learn face: batches, NumPy in and out."""

from densityjax.estimators._tabular_density import TabularDensity
from densityjax.estimators.energy_density import EnergyDensity
from densityjax.estimators.flow_density import FlowDensity
from densityjax.estimators.joint_distribution import JointDistribution, PortfolioRisk
from densityjax.estimators.joint_energy_classifier import JointEnergyClassifier
from densityjax.estimators.joint_forecaster import JointForecaster, joint_rows
from densityjax.estimators.rbm_density import RBMDensity
from densityjax.estimators.return_forecaster import ReturnForecaster, forecast_rows
from densityjax.estimators.return_score import ReturnScore, ReturnScores
from densityjax.estimators.score_density import ScoreDensity
from densityjax.estimators.walk_forward import walk_forward_forecasts

__all__ = [
    "EnergyDensity",
    "FlowDensity",
    "JointDistribution",
    "JointEnergyClassifier",
    "JointForecaster",
    "PortfolioRisk",
    "RBMDensity",
    "ReturnForecaster",
    "ReturnScore",
    "ReturnScores",
    "ScoreDensity",
    "TabularDensity",
    "forecast_rows",
    "joint_rows",
    "walk_forward_forecasts",
]
