"""Portfolio risk and weights from joint scenarios of next-bar returns, in float64 on the host.

Scenarios are [S, A] SIMPLE returns of A assets, as fractions, one row per equally likely joint
outcome: money adds over assets in simple returns only, so take `np.expm1` of log returns first.
With weights w (fractions of equity; what they leave of 1 is cash that earns nothing) the
portfolio earns `p_s = sum_a w_a R_sa`. Losses are positive; `confidence` is .99 for the 1 % tail.

Expected shortfall is that of Rockafellar and Uryasev, `min_t t + E[(-p - t)^+] / (1 - c)`: the
worst `(1 - c) S` scenarios, the last one in part. Where that number is whole it is the plain mean
of those losses.
"""

from typing import Literal, NamedTuple

import numpy as np
from scipy import linalg, optimize, sparse

from densityjax._typing import ArrayLike, NumpyArray


class RiskContributions(NamedTuple):
    """Euler decomposition of a risk measure that is homogeneous in the weights.

    Attributes:
      total: risk of the portfolio, a positive loss as a fraction of equity.
      marginal: [A] derivative of the total in each weight, per unit of weight.
      component: [A] `weight * marginal`; sums to the total.
    """

    total: float
    marginal: NumpyArray
    component: NumpyArray


class ShortfallWeights(NamedTuple):
    """Weights of least expected shortfall.

    Attributes:
      weights: [A] fractions of equity, at least 0, summing to 1.
      expected_shortfall: of the weights on the scenarios, a positive loss.
      value_at_risk: of the weights on the scenarios, a positive loss.
    """

    weights: NumpyArray
    expected_shortfall: float
    value_at_risk: float


def scenario_covariance(
    scenarios: ArrayLike, *, shrinkage: Literal["none", "ledoit_wolf"] = "none"
) -> NumpyArray:
    """Returns the covariance of the assets over the scenarios.

    Args:
      scenarios: [S, A] simple returns, as fractions; S at least 2.
      shrinkage: "none" divides by `S - 1`; "ledoit_wolf" shrinks towards a multiple of the
        identity by scikit-learn (which divides by S), for few scenarios of many assets.

    Returns:
      [A, A] covariance, in squared returns of one bar.

    Raises:
      ValueError: if the scenarios are not finite and [S, A], or `shrinkage` is unknown.

    References:
      Ledoit and Wolf, A Well-Conditioned Estimator for Large-Dimensional Covariance Matrices,
      2004, eq. 14.
    """
    values = _check_scenarios(scenarios)
    if shrinkage == "none":
        return np.atleast_2d(np.cov(values, rowvar=False))
    if shrinkage == "ledoit_wolf":
        from sklearn.covariance import ledoit_wolf  # slow to import, and only this needs it

        return ledoit_wolf(values)[0]
    raise ValueError(f"shrinkage must be 'none' or 'ledoit_wolf', got {shrinkage!r}")


def minimum_variance_weights(covariance: ArrayLike, *, is_long_only: bool = False) -> NumpyArray:
    """Returns the fully invested weights of least variance.

    Unconstrained they are `C^-1 1 / (1' C^-1 1)`. Long-only they are `y / sum(y)` for the y >= 0
    that minimises `y' C y / 2 - sum(y)` (the same conditions up to scale), which is a
    non-negative least-squares problem in the Cholesky factor of C, solved exactly.

    Args:
      covariance: [A, A] positive definite, in squared returns.
      is_long_only: whether all weights must be at least 0.

    Returns:
      [A] weights that sum to 1.

    Raises:
      ValueError: if the covariance is not square, finite, symmetric and positive definite.

    References:
      Markowitz, Portfolio Selection, 1952; Merton, An Analytic Derivation of the Efficient
      Portfolio Frontier, 1972, section 3.
    """
    matrix = np.asarray(covariance, dtype=float)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or not np.all(np.isfinite(matrix)):
        raise ValueError(f"covariance must be finite and [A, A], got shape {matrix.shape}")
    if not np.allclose(matrix, matrix.T, atol=0.0):
        raise ValueError("covariance must be symmetric")
    try:
        factor = linalg.cholesky(matrix, lower=True)
    except linalg.LinAlgError as error:
        raise ValueError(f"covariance must be positive definite: {error}") from None
    ones = np.ones(len(matrix))
    if is_long_only:
        solution = optimize.nnls(factor.T, linalg.solve_triangular(factor, ones, lower=True))[0]
    else:
        solution = linalg.cho_solve((factor, True), ones)
    return solution / solution.sum()


def portfolio_returns(scenarios: ArrayLike, weights: ArrayLike) -> NumpyArray:
    """Returns the portfolio's simple return in each scenario, [S].

    Args:
      scenarios: [S, A] simple returns, as fractions.
      weights: [A] fractions of equity, any sign; the rest of equity is cash.

    Raises:
      ValueError: if shapes do not match or a number is not finite.
    """
    values, held = _check_scenarios(scenarios), np.asarray(weights, dtype=float)
    if held.shape != values.shape[1:] or not np.all(np.isfinite(held)):
        raise ValueError(f"weights must be finite and [{values.shape[1]}], got {held}")
    return values @ held


def portfolio_value_at_risk(scenarios: ArrayLike, weights: ArrayLike, confidence: float) -> float:
    """Returns the smallest loss among the worst `ceil((1 - confidence) S)` scenarios.

    Args:
      scenarios: [S, A] simple returns, as fractions.
      weights: [A] fractions of equity.
      confidence: level in (0, 1), .99 for the 1 % tail.

    Returns:
      Loss as a fraction of equity, negative where even the tail gains.

    Raises:
      ValueError: if an argument is out of range.
    """
    tail = _tail_weights(portfolio_returns(scenarios, weights), confidence)
    return -float(np.max(portfolio_returns(scenarios, weights)[tail > 0.0]))


def portfolio_expected_shortfall(
    scenarios: ArrayLike, weights: ArrayLike, confidence: float
) -> float:
    """Returns the mean loss over the worst `(1 - confidence) S` scenarios, the last one in part.

    Args:
      scenarios: [S, A] simple returns, as fractions.
      weights: [A] fractions of equity.
      confidence: level in (0, 1), .99 for the 1 % tail.

    Returns:
      Loss as a fraction of equity, at least the value at risk.

    Raises:
      ValueError: if an argument is out of range.

    References:
      Rockafellar and Uryasev, Conditional Value-at-Risk for General Loss Distributions, 2002,
      prop. 8.
    """
    returns = portfolio_returns(scenarios, weights)
    return -float(_tail_weights(returns, confidence) @ returns)


def expected_shortfall_contributions(
    scenarios: ArrayLike, weights: ArrayLike, confidence: float
) -> RiskContributions:
    """Splits the expected shortfall over assets: `marginal_a = -E[R_a | portfolio tail]`.

    The value at risk has no such table here: on scenarios its derivative is the return of ONE
    scenario, which is noise.

    Args:
      scenarios: [S, A] simple returns, as fractions.
      weights: [A] fractions of equity.
      confidence: level in (0, 1), .99 for the 1 % tail.

    Returns:
      The `RiskContributions`; a negative component hedges.

    Raises:
      ValueError: if an argument is out of range.

    References:
      Tasche, Risk Contributions and Performance Measurement, 1999, eq. 4.9.
    """
    tail = _tail_weights(portfolio_returns(scenarios, weights), confidence)
    return _euler(weights, -tail @ np.asarray(scenarios, dtype=float))


def volatility_contributions(covariance: ArrayLike, weights: ArrayLike) -> RiskContributions:
    """Splits the standard deviation over assets: `marginal = C w / sqrt(w' C w)`.

    Args:
      covariance: [A, A] in squared returns.
      weights: [A] fractions of equity, not of zero variance.

    Returns:
      The `RiskContributions` of the standard deviation, in returns of one bar.

    Raises:
      ValueError: if the portfolio has no variance.
    """
    held = np.asarray(weights, dtype=float)
    slope = np.asarray(covariance, dtype=float) @ held
    variance = float(held @ slope)
    if not variance > 0.0:
        raise ValueError(f"weights must have a positive variance, got {variance}")
    return _euler(held, slope / np.sqrt(variance))


def minimum_expected_shortfall_weights(
    scenarios: ArrayLike, confidence: float, *, max_weight: ArrayLike | None = None
) -> ShortfallWeights:
    """Finds the long-only, fully invested weights of least expected shortfall.

    Solves `min t + sum_s u_s / ((1 - c) S)` over w, t and u, subject to `u_s >= -R_s w - t`,
    `u >= 0`, `sum(w) = 1`, `0 <= w <= max_weight`, a linear programme, by HiGHS. Few tail
    scenarios per asset make weights of least shortfall fit noise: look at them out of sample.

    Args:
      scenarios: [S, A] simple returns, as fractions.
      confidence: level in (0, 1), .99 for the 1 % tail.
      max_weight: [] or [A] largest weight of each asset; None for 1.

    Returns:
      The `ShortfallWeights`.

    Raises:
      ValueError: if an argument is out of range, or the caps do not allow weights that sum to 1.
      RuntimeError: if the solver stops without an optimum.

    References:
      Rockafellar and Uryasev, Optimization of Conditional Value-at-Risk, 2000, eq. 17.
    """
    values = _check_scenarios(scenarios)
    num_scenarios, num_assets = values.shape
    _check_confidence(confidence)
    cap = np.broadcast_to(1.0 if max_weight is None else max_weight, (num_assets,)).astype(float)
    if not (np.all(cap >= 0.0) and cap.sum() >= 1.0):
        raise ValueError(f"max_weight must be at least 0 and sum to 1 or more, got {cap}")
    unit = values.std() or 1.0  # tolerances of the solver are absolute: bring returns near 1
    ones = np.ones((num_scenarios, 1))
    share = np.full(num_scenarios, 1.0 / ((1.0 - confidence) * num_scenarios))
    found = optimize.linprog(
        np.concatenate([np.zeros(num_assets), [1.0], share]),
        A_ub=sparse.hstack([-values / unit, -ones, -sparse.eye(num_scenarios)], format="csc"),
        b_ub=np.zeros(num_scenarios),
        A_eq=np.concatenate([np.ones(num_assets), np.zeros(num_scenarios + 1)])[None],
        b_eq=[1.0],
        bounds=[*((0.0, c) for c in cap), (None, None), *[(0.0, None)] * num_scenarios],
        method="highs",
    )
    if not found.success:
        raise RuntimeError(f"the linear programme has no optimum: {found.message}")
    weights = np.clip(found.x[:num_assets], 0.0, cap)  # the solver may be a rounding outside
    shortfall = portfolio_expected_shortfall(values, weights, confidence)
    return ShortfallWeights(
        weights, shortfall, portfolio_value_at_risk(values, weights, confidence)
    )


def _check_scenarios(scenarios: ArrayLike) -> NumpyArray:
    """Returns the scenarios as a finite float64 [S, A] array."""
    values = np.asarray(scenarios, dtype=float)
    if values.ndim != 2 or values.shape[0] < 2 or values.shape[1] < 1:
        raise ValueError(f"scenarios must be [S, A] with S at least 2, got shape {values.shape}")
    if not np.all(np.isfinite(values)):
        raise ValueError("scenarios must be finite, got NaN or infinite returns")
    return values


def _check_confidence(confidence: float) -> None:
    """Raises unless the level is in (0, 1)."""
    if not 0.0 < confidence < 1.0:
        raise ValueError(f"confidence must be in (0, 1), got {confidence}")


def _tail_weights(returns: NumpyArray, confidence: float) -> NumpyArray:
    """Returns the probability [S] of each scenario given the tail; the last one enters in part."""
    _check_confidence(confidence)
    order = np.argsort(returns, kind="stable")
    count = (1.0 - confidence) * returns.size
    nearest = np.round(count)
    if abs(count - nearest) < 1e-9 * returns.size:  # 1 - .95 is 5e-17 above .05: a whole number
        count = max(nearest, 0.0) or count
    tail = np.empty_like(returns)
    tail[order] = np.clip(count - np.arange(returns.size), 0.0, 1.0) / count
    return tail


def _euler(weights: ArrayLike, marginal: NumpyArray) -> RiskContributions:
    """Returns contributions of a risk with these derivatives in the weights."""
    component = np.asarray(weights, dtype=float) * marginal
    return RiskContributions(float(component.sum()), marginal, component)
