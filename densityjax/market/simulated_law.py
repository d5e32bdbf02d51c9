"""The law of the simulated market: regimes, volatility recursion, skewed heavy tails, jumps.

With s the hidden regime of a bar and sigma its scale, known from the returns before it,

    r_t = sigma_t m_s (d_s + eta_t),   eta_t: zero mean, unit variance, skewed t with jumps,
    sigma_{t+1}^2 = omega + (alpha + gamma 1[r_t < 0]) r_t^2 + beta sigma_t^2.

The recursion reads returns, never s: given the past, r_t / sigma_t is a finite mixture of skewed
t laws whose weights are the filtered regime probabilities. Everything here is float64, on the host.
"""

import dataclasses
import functools
from collections.abc import Callable

import numpy as np
from scipy import optimize

from densityjax import numerics
from densityjax._typing import NumpyArray
from densityjax.market.simulated_density import Components, regime_expectation


@dataclasses.dataclass(frozen=True)
class MarketLaw:
    """Parameters of the simulated market; the default has calm, normal and turbulent regimes.

    Attributes:
      durations: [S] expected length of a regime, in bars, above 1.
      switching: [S][S] where a regime goes when it ends; zero diagonal, rows sum to one. Not read
        where S = 1.
      scale: [S] multiplier of sigma in a regime, positive.
      drift: [S] conditional mean in a regime, in units of `scale * sigma`.
      skew: [S] Hansen's lambda of the body, in (-1, 1); negative is a long lower tail.
      dof: [S] degrees of freedom of body and jump, above 2.
      alpha: response of sigma^2 to any squared return.
      gamma: extra response to a squared negative return: the leverage effect.
      beta: memory of sigma^2.
      jump_probability: chance that a bar's innovation is a jump, in [0, 1).
      jump_mean: mean of a jump, in standard deviations of the body.
      jump_scale: standard deviation of a jump, in standard deviations of the body, positive.
      volatility: root mean square of the log return of a bar in the long run.

    Raises:
      ValueError: if a parameter is outside its range, or the variance is not stationary.

    References:
      Glosten, Jagannathan, Runkle (1993), eq. 7, for the recursion; Hansen, Autoregressive
      conditional density estimation (1994), eq. 10-13, for the skewed t; Hamilton (1989) for the
      regimes.
    """

    durations: tuple[float, ...] = (250.0, 150.0, 60.0)
    switching: tuple[tuple[float, ...], ...] = ((0.0, 0.8, 0.2), (0.6, 0.0, 0.4), (0.3, 0.7, 0.0))
    scale: tuple[float, ...] = (0.7, 1.0, 1.45)
    drift: tuple[float, ...] = (0.05, 0.01, -0.07)
    skew: tuple[float, ...] = (0.0, -0.05, -0.15)
    dof: tuple[float, ...] = (8.0, 7.0, 6.0)
    alpha: float = 0.025
    gamma: float = 0.03
    beta: float = 0.89
    jump_probability: float = 0.005
    jump_mean: float = -1.5
    jump_scale: float = 3.0
    volatility: float = 0.006

    def __post_init__(self) -> None:
        """Checks every field and that the variance is stationary."""
        _check_law(self)

    @property
    def num_regimes(self) -> int:
        """Number of hidden regimes."""
        return len(self.durations)

    @functools.cached_property
    def transition(self) -> NumpyArray:
        """[S, S] probability of the next bar's regime (column) given this bar's (row)."""
        if self.num_regimes == 1:
            return np.ones((1, 1))
        leave = 1.0 / np.asarray(self.durations, float)
        return np.diag(1.0 - leave) + leave[:, None] * np.asarray(self.switching, float)

    @functools.cached_property
    def stationary(self) -> NumpyArray:
        """[S] long-run share of bars in each regime."""
        size = self.num_regimes
        system = np.vstack([self.transition.T - np.eye(size), np.ones(size)])
        return np.linalg.lstsq(system, np.append(np.zeros(size), 1.0))[0]

    @functools.cached_property
    def components(self) -> Components:
        """The mixture of r / sigma in each regime; its mean is `scale * drift`."""
        prob, mean, spread = self.jump_probability, self.jump_mean, self.jump_scale
        centre = prob * mean
        total_sd = np.sqrt(1.0 - prob + prob * (spread**2 + mean**2) - centre**2)
        scale, drift, skew, dof = (
            np.asarray(values, float)[:, None]
            for values in (self.scale, self.drift, self.skew, self.dof)
        )
        location = scale * (drift + (np.array([0.0, mean]) - centre) / total_sd)
        return Components(
            np.broadcast_to([1.0 - prob, prob], location.shape),
            location,
            scale * np.array([1.0, spread]) / total_sd,
            skew * np.array([1.0, 0.0]),
            np.broadcast_to(dof, location.shape),
        )

    def _growth(self, power: float) -> NumpyArray:
        """[S] mean of `(beta + (alpha + gamma 1[x < 0]) x^2)^power` in each regime."""

        def log_growth(x: NumpyArray) -> NumpyArray:
            growth = self.beta + (self.alpha + self.gamma * (x < 0.0)) * x**2
            return power * np.log(growth)

        return regime_expectation(self.components, log_growth)

    def _radius(self, power: float) -> float:
        """Growth rate per bar of the mean of `sigma^(2 power)`, regimes included."""
        matrix = self.transition.T * self._growth(power)
        return float(np.max(np.abs(np.linalg.eigvals(matrix))))

    @functools.cached_property
    def persistence(self) -> float:
        """Decay per bar of a shock to the mean of sigma^2: stationary below one.

        Alpha + gamma / 2 + beta where one symmetric regime is all there is; in general the spectral
        radius of the transitions weighted by each regime's mean response.
        """
        return self._radius(1.0)

    @functools.cached_property
    def mean_variance_by_regime(self) -> NumpyArray:
        """[S] stationary mean of sigma^2 on the bars of a regime, for omega = 1."""
        push = self.transition.T * self._growth(1.0)
        mass = np.linalg.solve(np.eye(self.num_regimes) - push, self.stationary)
        return mass / self.stationary

    @functools.cached_property
    def omega(self) -> float:
        """Constant of the recursion that gives the returns their long-run `volatility`."""
        second = np.square(self.scale) * (1.0 + np.square(self.drift))
        raw = float(np.sum(self.stationary * self.mean_variance_by_regime * second))
        return self.volatility**2 / raw

    @property
    def initial_variance(self) -> float:
        """Sigma^2 of the first bar: its long-run mean."""
        return self.omega * float(self.stationary @ self.mean_variance_by_regime)

    @functools.cached_property
    def tail_index(self) -> float:
        """Power of the tail of a return: P(|r| > x) falls as x to the minus this.

        The root of `spectral radius of E[growth^(index / 2)] = 1`, or the fewest degrees of freedom
        where those end first.

        References:
          Kesten (1973); Mikosch and Starica (2000), theorem 2.1, for GARCH.
        """
        heaviest = min(self.dof)
        last = (1.0 - numerics.TAIL_INDEX_MARGIN) * heaviest / 2.0
        low, high = 0.0, min(1.0, last)
        while self._radius(high) < 1.0:
            if high == last or self.alpha == self.gamma == 0.0:
                return heaviest
            low, high = high, min(2.0 * high, last)
        return 2.0 * _root(lambda power: self._radius(power) - 1.0, low, high)


def _root(function: Callable[[float], float], low: float, high: float) -> float:
    """Returns the zero of `function` that lies in the bracket."""
    return float(np.asarray(optimize.brentq(function, low, high, full_output=False)))


def _check_law(law: MarketLaw) -> None:
    """Raises `ValueError` naming the first parameter that is out of its range."""
    size = law.num_regimes
    ranges = {  # open intervals, but for the lower ends listed below
        "durations": (1.0, np.inf),
        "scale": (0.0, np.inf),
        "drift": (-np.inf, np.inf),
        "skew": (-1.0, 1.0),
        "dof": (2.0, np.inf),
        "alpha": (0.0, 1.0),
        "gamma": (0.0, 1.0),
        "beta": (0.0, 1.0),
        "jump_probability": (0.0, 1.0),
        "jump_mean": (-np.inf, np.inf),
        "jump_scale": (0.0, np.inf),
        "volatility": (0.0, np.inf),
    }
    for name, (low, high) in ranges.items():
        value = np.asarray(getattr(law, name), float)
        may_touch = name in ("alpha", "gamma", "beta", "jump_probability")
        if value.ndim and value.shape != (size,):
            raise ValueError(f"{name} must have {size} entries, as durations, got {value}")
        if not np.all(((value > low) | (may_touch & (value == low))) & (value < high)):
            raise ValueError(f"{name} must lie between {low} and {high}, got {value}")
    switching = np.asarray(law.switching, float)
    if size > 1 and not (
        switching.shape == (size, size)
        and np.all(switching >= 0.0)
        and np.allclose(np.diag(switching), 0.0)
        and np.allclose(switching.sum(1), 1.0)
    ):
        raise ValueError(
            f"switching must be {size} x {size}, zero diagonal, rows of sum 1: {switching}"
        )
    if not law.persistence < 1.0:
        raise ValueError(f"the variance must be stationary: persistence {law.persistence:.4f} >= 1")
