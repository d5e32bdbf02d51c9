"""One-step volatility forecasts that every learned density has to beat.

Each function fits its parameters on the first `num_train` returns and then FILTERS all of them
with the parameters held: row t of a forecast is made at the close of t for `returns[t + 1]` and
reads returns up to t. Rows before `num_train - 1` share their data with the fit (in-sample).
Returns are log returns as fractions; fits run on returns divided by their standard deviation,
and locations and scales are mapped back, so log densities are of the fraction. Every law is
Hansen's skewed t with unit variance, `r = location + scale z`, which holds Student's t (skew 0)
and the normal (infinite degrees of freedom).
"""

import functools
from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np
from scipy import optimize

from densityjax._typing import ArrayLike, NumpyArray
from densityjax.risk.skew_t import skew_t_cdf, skew_t_log_prob, skew_t_quantile
from densityjax.risk.volatility import backcast, egarch_variance, ewma_variance, garch_variance

MIN_TRAIN = 100  # fewer returns do not identify five parameters
MIN_DF, MAX_DF = 2.05, 300.0  # of a fitted t: a finite variance, and as good as normal

InnovationLaw = Literal["normal", "t", "skewt"]


class BaselineForecast(NamedTuple):
    """Forecast distributions, one row per bar t, of the return of bar t + 1.

    Attributes:
      location: [T] mean of the next log return, as a fraction.
      scale: [T] standard deviation of the next log return, as a fraction.
      degrees_of_freedom: [T] of the skewed t, above 2; infinite for a normal.
      skew: [T] Hansen's lambda in (-1, 1), 0 for a symmetric law.
      is_converged: [T] whether the optimiser behind the row's parameters reported success.
    """

    location: NumpyArray
    scale: NumpyArray
    degrees_of_freedom: NumpyArray
    skew: NumpyArray
    is_converged: NumpyArray

    def log_prob(self, next_returns: ArrayLike) -> NumpyArray:
        """Returns the log density [T], in nats, of `next_returns[t] = returns[t + 1]`, [T]."""
        z = (np.asarray(next_returns, dtype=float) - self.location) / self.scale
        return skew_t_log_prob(z, self.degrees_of_freedom, self.skew) - np.log(self.scale)

    def cdf(self, next_returns: ArrayLike) -> NumpyArray:
        """Returns the forecast probability [T] of a return below `next_returns`, [T]."""
        z = (np.asarray(next_returns, dtype=float) - self.location) / self.scale
        return skew_t_cdf(z, self.degrees_of_freedom, self.skew)

    def quantile(self, probability: ArrayLike) -> NumpyArray:
        """Returns the log return [T] that is undercut with `probability`, [] or [T]."""
        z = skew_t_quantile(probability, self.degrees_of_freedom, self.skew)
        return self.location + self.scale * z

    def value_at_risk(self, confidence: float) -> NumpyArray:
        """Returns the loss [T], positive, exceeded with probability `1 - confidence`."""
        return -self.quantile(1.0 - confidence)

    def expected_shortfall(self, confidence: float) -> NumpyArray:
        """Returns the mean loss [T], positive, beyond the value at risk at `confidence`."""
        node, weight = np.polynomial.legendre.leggauss(32)
        node, weight = 0.5 * (node + 1.0), 0.5 * weight
        # u = tail * s^4 spreads the nodes over the tail: plain nodes in u are biased.
        terms = zip((1.0 - confidence) * node**4, 4.0 * node**3 * weight, strict=True)
        return -np.sum([share * self.quantile(u) for u, share in terms], axis=0)


def ewma_t(
    returns: ArrayLike,
    *,
    num_train: int,
    decay: float = 0.94,
    num_start: int = 250,
    num_fit: int = 2000,
    refit_every: int | None = None,
) -> BaselineForecast:
    """Forecasts with an exponentially weighted variance and a Student-t law of mean zero.

    `s2[t + 1] = decay s2[t] + (1 - decay) r[t]^2`, from the mean square of the first `num_start`
    returns; degrees of freedom and scale of the t by maximum likelihood on the last `num_fit`
    standardised training returns.

    Args:
      returns: [T] log returns, as fractions, finite.
      num_train: number of leading returns that the parameters may see.
      decay: weight of yesterday's variance, in (0, 1).
      num_start: number of leading returns behind the first variance (at most `num_train`).
      num_fit: number of standardised training returns behind the t.
      refit_every: bars between fits on an expanding window; None fits once.

    Returns:
      A `BaselineForecast` of T rows.

    Raises:
      ValueError: if an argument is out of range or a return is not finite.

    References:
      J.P. Morgan, RiskMetrics Technical Document, 1996, section 5.2.
    """
    if not 0.0 < decay < 1.0:
        raise ValueError(f"decay must be in (0, 1), got {decay}")
    if min(num_start, num_fit) < 2:
        raise ValueError(f"num_start and num_fit must be at least 2, got {num_start}, {num_fit}")

    def fit(train: NumpyArray, full: NumpyArray) -> BaselineForecast:
        start = float(np.mean(train[:num_start] ** 2))
        variance = ewma_variance(full, start=start, decay=decay)
        standardised = train[-num_fit:] / np.sqrt(variance[: train.size][-num_fit:])
        degrees_of_freedom, scale, is_converged = _fit_student_t(standardised)
        return _forecast(0.0, scale * np.sqrt(variance[1:]), degrees_of_freedom, 0.0, is_converged)

    return _expanding(returns, num_train, refit_every, fit)


def garch(
    returns: ArrayLike,
    *,
    num_train: int,
    distribution: InnovationLaw = "t",
    refit_every: int | None = None,
) -> BaselineForecast:
    """Forecasts with GARCH(1, 1), `s2[t + 1] = omega + alpha e[t]^2 + beta s2[t]`.

    Args:
      returns: [T] log returns, as fractions, finite.
      num_train: number of leading returns that the parameters may see.
      distribution: law of the innovations.
      refit_every: bars between fits on an expanding window; None fits once.

    Returns:
      A `BaselineForecast` of T rows, with a constant mean.

    Raises:
      ValueError: if an argument is out of range or a return is not finite.

    References:
      Bollerslev, Generalized Autoregressive Conditional Heteroskedasticity, 1986, eq. 2.
    """
    fit = functools.partial(_fit_arch, volatility="GARCH", asymmetry=0, distribution=distribution)
    return _expanding(returns, num_train, refit_every, fit)


def gjr_skewt(
    returns: ArrayLike, *, num_train: int, refit_every: int | None = None
) -> BaselineForecast:
    """Forecasts with GJR-GARCH(1, 1) and skewed t: losses add `gamma e[t]^2` to the variance.

    Args:
      returns: [T] log returns, as fractions, finite.
      num_train: number of leading returns that the parameters may see.
      refit_every: bars between fits on an expanding window; None fits once.

    Returns:
      A `BaselineForecast` of T rows, with a constant mean.

    Raises:
      ValueError: if an argument is out of range or a return is not finite.

    References:
      Glosten, Jagannathan and Runkle, 1993, eq. 4; Hansen, Autoregressive Conditional Density
      Estimation, 1994, eq. 10.
    """
    fit = functools.partial(_fit_arch, volatility="GARCH", asymmetry=1, distribution="skewt")
    return _expanding(returns, num_train, refit_every, fit)


def egarch_skewt(
    returns: ArrayLike, *, num_train: int, refit_every: int | None = None
) -> BaselineForecast:
    """Forecasts with EGARCH(1, 1) and skewed t.

    `ln s2[t + 1] = omega + alpha (|z[t]| - sqrt(2 / pi)) + gamma z[t] + beta ln s2[t]`.

    Args:
      returns: [T] log returns, as fractions, finite.
      num_train: number of leading returns that the parameters may see.
      refit_every: bars between fits on an expanding window; None fits once.

    Returns:
      A `BaselineForecast` of T rows, with a constant mean.

    Raises:
      ValueError: if an argument is out of range or a return is not finite.

    References:
      Nelson, Conditional Heteroskedasticity in Asset Returns, 1991, eq. 1.11.
    """
    fit = functools.partial(_fit_arch, volatility="EGARCH", asymmetry=1, distribution="skewt")
    return _expanding(returns, num_train, refit_every, fit)


def check_returns(returns: ArrayLike) -> NumpyArray:
    """Returns [T] finite returns as float64; raises ValueError for anything else."""
    values = np.asarray(returns, dtype=float)
    if values.ndim != 1 or not np.all(np.isfinite(values)):
        raise ValueError(f"returns must be finite and [T], got shape {values.shape}")
    return values


def _expanding(
    returns: ArrayLike,
    num_train: int,
    refit_every: int | None,
    fit: Callable[[NumpyArray, NumpyArray], BaselineForecast],
) -> BaselineForecast:
    """Fits on expanding windows; each fit owns the rows from its last training bar on."""
    values = check_returns(returns)
    if not MIN_TRAIN <= num_train <= values.size:
        raise ValueError(f"num_train must be in [{MIN_TRAIN}, {values.size}], got {num_train}")
    if np.ptp(values[:num_train]) == 0.0:
        raise ValueError("returns must vary over the training rows, got a constant")
    if refit_every is not None and refit_every < 1:
        raise ValueError(f"refit_every must be at least 1 bar or None, got {refit_every}")
    sizes = list(range(num_train, values.size + 1, refit_every or values.size))
    edges = [0, *(size - 1 for size in sizes[1:]), values.size]
    blocks = []
    for size, first, last in zip(sizes, edges[:-1], edges[1:], strict=True):
        full = fit(values[:size], values[:last])
        blocks.append(BaselineForecast(*(field[first:last] for field in full)))
    return BaselineForecast(*(np.concatenate(fields) for fields in zip(*blocks, strict=True)))


def _forecast(
    location: float, scale: NumpyArray, df: float, skew: float, is_converged: bool
) -> BaselineForecast:
    """Returns a forecast whose parameters are the same on each of the T rows of `scale`."""
    same = functools.partial(np.full, scale.shape)
    return BaselineForecast(same(location), scale, same(df), same(skew), same(is_converged))


def _fit_student_t(z: NumpyArray) -> tuple[float, float, bool]:
    """Returns df, standard deviation and success of a maximum-likelihood t with mean 0."""
    spread = float(np.sqrt(np.mean(z**2)))

    def loss(theta: NumpyArray) -> float:
        df, scale = 1.0 / theta[0], spread * np.exp(theta[1])
        return float(np.log(scale) - np.mean(skew_t_log_prob(z / scale, df, 0.0)))

    bounds = [(1.0 / MAX_DF, 1.0 / MIN_DF), (-3.0, 3.0)]
    found = optimize.minimize(loss, [0.15, 0.0], bounds=bounds, method="L-BFGS-B")
    return 1.0 / float(found.x[0]), spread * float(np.exp(found.x[1])), bool(found.success)


def _fit_arch(
    train: NumpyArray,
    full: NumpyArray,
    *,
    volatility: Literal["GARCH", "EGARCH"],
    asymmetry: Literal[0, 1],
    distribution: InnovationLaw,
) -> BaselineForecast:
    """Fits with arch on the training rows, then filters all rows with those parameters."""
    from arch import arch_model  # slow to import, and only these three need it

    if distribution not in ("normal", "t", "skewt"):
        raise ValueError(f"distribution must be 'normal', 't' or 'skewt', got {distribution!r}")
    unit = float(np.std(train))  # the optimiser works on unit variance; arch warns far from it
    model = arch_model(
        train / unit, vol=volatility, p=1, o=asymmetry, q=1, dist=distribution, rescale=False
    )
    with np.errstate(all="ignore"):  # trial steps may overflow; the outcome is checked below
        result = model.fit(disp="off", show_warning=False)
    fitted = {str(name): float(value) for name, value in result.params.items()}
    recursion = egarch_variance if volatility == "EGARCH" else garch_variance
    variance = recursion(
        full / unit - fitted["mu"],
        omega=fitted["omega"],
        alpha=fitted["alpha[1]"],
        gamma=fitted.get("gamma[1]", 0.0),
        beta=fitted["beta[1]"],
        start=backcast((train - train.mean()) / unit),
    )
    if not np.all(np.isfinite(variance)):
        raise ValueError(f"the {volatility} fit gave a variance that is not finite: {fitted}")
    df = fitted.get("nu", fitted.get("eta", np.inf))
    skew = fitted.get("lambda", 0.0)
    is_converged = result.convergence_flag == 0
    return _forecast(unit * fitted["mu"], unit * np.sqrt(variance[1:]), df, skew, is_converged)
