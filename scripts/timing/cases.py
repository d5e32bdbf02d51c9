"""The cases that `benchmark.py` times: fits, densities, scores, forecasts, grids, simulation."""

import functools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from densityjax import backtest, losses, market, training
from densityjax.models import (
    Flow,
    ReturnDistribution,
    Score,
    flow_log_prob,
    neural_spline_flow,
    score_model,
)
from densityjax.models.batching import map_rows
from densityjax.models.forecaster import return_marginals
from densityjax.models.score_losses import score_loss
from densityjax.samplers import reverse_diffusion, schedules

STEPS_PER_CALL = 16  # training steps in one compiled scan, as in a fit: dispatch is shared
FORECASTER = {"num_layers": 1, "num_bins": 8, "width": 32, "num_hidden": 1}  # `ReturnForecaster`'s


class Case(NamedTuple):
    """One thing to time.

    Attributes:
      name: what is timed.
      size: its sizes in words.
      call: does the work once; everything it returns is waited for.
      work: units of work in one call.
      unit: what one unit is.
    """

    name: str
    size: str
    call: Callable[[], Any]
    work: float
    unit: str


def train_step(name: str, flow: Flow, *, num_members: int, batch_size: int) -> Case:
    """Builds the case of an optimiser step of likelihood training, vmapped over members."""
    dim, context_dim = flow.config.dim, flow.config.context_dim
    rows = _heavy_rows((STEPS_PER_CALL, batch_size, dim))
    context = _heavy_rows((STEPS_PER_CALL, batch_size, context_dim)) if context_dim else None

    def loss(params: Any, key: jax.Array, *batch: jax.Array) -> jax.Array:
        log_prob = functools.partial(flow.log_prob, params)
        return jnp.mean(
            jax.vmap(functools.partial(losses.negative_log_likelihood, log_prob))(*batch)
        )

    params = _start(flow, jax.random.split(jax.random.key(0), num_members))
    call = _steps(loss, params, (rows,) if context is None else (rows, context))
    size = f"{num_members} members, dim {dim}, context {context_dim}, batch {batch_size}"
    return Case(name, size, call, STEPS_PER_CALL, "step")


def _steps(loss: Callable, params: Any, batches: tuple) -> Callable[[], Any]:
    """Returns what runs AdamW over batches [S, B, ...] in one program, vmapped over members."""
    optimizer = training.adamw(num_steps=10_000)

    def one_step(state: tuple, inputs: tuple) -> tuple[tuple, jax.Array]:
        value, grads = jax.value_and_grad(loss)(state[0], *inputs)
        updates, opt_state = optimizer.update(grads, state[1], state[0])
        return (optax.apply_updates(state[0], updates), opt_state), value

    def some_steps(params: Any, inputs: tuple) -> tuple:
        return jax.lax.scan(one_step, (params, optimizer.init(params)), inputs)

    keys = jax.random.split(jax.random.key(1), STEPS_PER_CALL)
    compiled = jax.jit(jax.vmap(some_steps, (0, None)))
    return lambda: compiled(params, (keys, *batches))


def score_train_step(model: Score, *, batch_size: int) -> Case:
    """Builds the case of an optimiser step of denoising score matching."""
    rows = _heavy_rows((STEPS_PER_CALL, batch_size, model.config.dim))
    loss_fn = score_loss(model).loss_fn

    def loss(params: Any, key: jax.Array, batch: jax.Array) -> jax.Array:
        return jnp.mean(loss_fn(params, key, batch, ())[0])

    params = jax.tree.map(lambda leaf: leaf[None], _score_params(model))
    size = f"dim {model.config.dim}, batch {batch_size}"
    return Case("score train step", size, _steps(loss, params, (rows,)), STEPS_PER_CALL, "step")


def score_evaluation(model: Score, *, num_draws: int, num_rows: int) -> Iterator[Case]:
    """Builds the cases of draws by Heun's method and of log densities with the exact trace."""
    dim, params = model.config.dim, _score_params(model)
    levels = schedules.edm_levels(
        sigma_min=model.config.sigma_min, sigma_max=model.config.sigma_max, num_levels=18
    )

    def draw(params: Any, key: jax.Array) -> jax.Array:
        start_key, key = jax.random.split(key)
        start = reverse_diffusion.start(start_key, dim, model.config.sigma_max)
        score_fn = functools.partial(model.standard_score, params)
        return reverse_diffusion.sample(key, score_fn, start, sigmas=levels).position

    draws = jax.jit(jax.vmap(draw, (None, 0)))
    keys = jax.random.split(jax.random.key(1), num_draws)
    size = f"dim {dim}, {num_draws} draws, 18 nodes"
    yield Case("score sample, Heun", size, lambda: draws(params, keys), num_draws, "row")
    log_prob = jax.jit(jax.vmap(functools.partial(flow_log_prob, model), (None, 0)))
    rows = _heavy_rows((num_rows, dim))
    size = f"dim {dim}, {num_rows} rows, exact trace"
    yield Case("score log_prob", size, lambda: log_prob(params, rows), num_rows, "row")


def flow_evaluation(flow: Flow, *, num_rows: int) -> Iterator[Case]:
    """Builds the cases of log densities and of samples of many rows."""
    rows = _heavy_rows((num_rows, flow.config.dim))
    params = jax.tree.map(
        lambda leaf: leaf[0], _start(flow, jax.random.split(jax.random.key(0), 1))
    )
    keys = jax.random.split(jax.random.key(1), num_rows)
    size = f"dim {flow.config.dim}, {flow.config.num_layers} layers, {num_rows} rows"
    log_prob = jax.jit(jax.vmap(flow.log_prob, (None, 0)))
    sample = jax.jit(jax.vmap(flow.sample, (0, None)))
    yield Case("flow log_prob", size, lambda: log_prob(params, rows), num_rows, "row")
    yield Case("flow sample", size, lambda: sample(keys, params), num_rows, "row")


def forecast(*, num_rows: int, num_members: int, num_context: int) -> Iterator[Case]:
    """Builds the cases of forecasting all rows: one VaR and shortfall, and the usual figures."""
    flow = neural_spline_flow(1, context_dim=num_context, **FORECASTER)
    context = np.asarray(_heavy_rows((num_rows, num_context)))
    params = _start(flow, jax.random.split(jax.random.key(0), num_members))
    log_scale = np.full(num_rows, np.log(0.01), np.float32)

    def predict() -> ReturnDistribution:
        members = map_rows(return_marginals(flow), context, log_scale, shared=(params,))
        return ReturnDistribution(np.arange(num_rows), members)

    def one_level() -> tuple:
        answer = predict()
        return answer.value_at_risk(0.99), answer.expected_shortfall(0.99)

    def two_levels() -> tuple:
        answer = predict()
        risks = [answer.value_at_risk(level) for level in (0.95, 0.99)]
        return answer.mean(), answer.std(), risks, *map(answer.expected_shortfall, (0.95, 0.99))

    size = f"{num_members} members, context {num_context}, {num_rows} rows"
    yield Case("forecast, VaR, ES", size, one_level, num_rows, "row")
    name = "forecast: parameters + mean, sd, two VaR, two ES"
    yield Case(name, size, two_levels, num_rows, "row")


def grid(
    *,
    num_bars: int,
    num_configs: int,
    chunk_size: int | None,
    metrics: str,
    stop_loss: float | None,
) -> Case:
    """Builds the case of a grid of threshold rules, figures of each configuration included."""
    rng = np.random.default_rng(0)
    close = 100.0 * np.exp(np.cumsum(0.01 * rng.standard_normal(num_bars)))
    ends = np.stack([np.append(100.0, close[:-1]), close])
    prices = backtest.Prices(ends[0], ends.max(0) * 1.003, ends.min(0) / 1.003, close)
    signals = backtest.Signals(
        expected_z=rng.standard_normal(num_bars).astype(np.float32),
        density_p_value=rng.uniform(size=num_bars).astype(np.float32),
        expected_shortfall=np.full(num_bars, 0.02, np.float32),
    )
    params = backtest.product_grid(
        backtest.ThresholdParams,
        entry_z=np.linspace(0.0, 2.0, num_configs // 64),
        exit_z=np.linspace(0.0, 0.5, 8),
        min_p_value=np.linspace(0.0, 0.1, 8),
        risk_budget=0.02,
    )

    def call() -> backtest.GridMetrics | backtest.FullMetrics:
        return backtest.run_grid(
            backtest.threshold_rule,
            params,
            signals,
            prices,
            periods_per_year=8766.0,
            stops=backtest.Stops(stop_loss=stop_loss),
            metrics=metrics,
            chunk_size=chunk_size,
        ).metrics

    size = f"{num_bars} bars, {num_configs} configurations, {metrics} metrics"
    size += "" if stop_loss is None else ", stops"
    return Case("grid of threshold rules", size, call, num_bars * num_configs, "bar of a rule")


def simulation(*, num_bars: int) -> Case:
    """Builds the case of a simulated market with its truth."""
    key = jax.random.key(0)

    def call() -> np.ndarray:
        return market.simulate_market(key, num_bars).log_prob

    return Case("simulate_market", f"{num_bars} bars", call, num_bars, "bar")


def cases(*, quick: bool, on_accelerator: bool) -> dict[str, Callable[[], list[Case]]]:
    """Names the groups of cases; each is built when it is asked for.

    Args:
      quick: small sizes.
      on_accelerator: sizes that fill a GPU or TPU.

    Returns:
      Name of the group -> function that builds its cases.
    """
    wide = neural_spline_flow(14, num_layers=4, num_bins=8, width=128)
    narrow = neural_spline_flow(1, context_dim=20, **FORECASTER)
    rows = 256 if quick else 65_536 if on_accelerator else 4096
    forecasts = 256 if quick else 100_000 if on_accelerator else 20_000
    configs = 64 if quick else 262_144 if on_accelerator else 4096

    draws, likelihoods = (256, 32) if quick else (10_000, 1_000)

    def wide_step(batch_size: int) -> Case:
        return train_step("flow train step", wide, num_members=1, batch_size=batch_size)

    def rules(metrics: str, stop_loss: float | None) -> Case:
        return grid(
            num_bars=256 if quick else 8760,
            num_configs=configs,
            chunk_size=262_144 if on_accelerator else None,
            metrics=metrics,
            stop_loss=stop_loss,
        )

    return {
        "forecaster": lambda: [
            train_step("forecaster train step", narrow, num_members=8, batch_size=256)
        ],
        "flow": lambda: [wide_step(size) for size in ((64,) if quick else (256, 2048))],
        "evaluation": lambda: list(flow_evaluation(wide, num_rows=rows)),
        "score": lambda: [
            score_train_step(score_model(14), batch_size=64 if quick else 256),
            *score_evaluation(score_model(10), num_draws=draws, num_rows=likelihoods),
        ],
        "forecast": lambda: list(forecast(num_rows=forecasts, num_members=8, num_context=20)),
        "grid": lambda: [rules("core", None)],
        "grid_full": lambda: [rules("full", None), rules("full", 0.05)],
        "simulate": lambda: [simulation(num_bars=500 if quick else 20_000)],
    }


def _heavy_rows(shape: tuple[int, ...]) -> jax.Array:
    """Rows with tails, so that no part of a flow is idle."""
    return jnp.asarray(np.random.default_rng(7).standard_t(5.0, shape), jnp.float32)


def _score_params(model: Score) -> Any:
    """Parameters of a new score model, its standardisers fitted to rows with tails."""
    return jax.jit(model.init)(jax.random.key(0), _heavy_rows((1024, model.config.dim)))


def _start(flow: Flow, keys: jax.Array) -> Any:
    """Parameters of new flows [M], their standardisers and tails fitted to rows with tails."""
    rows = [_heavy_rows((1024, flow.config.dim))]
    if flow.config.context_dim:
        rows.append(_heavy_rows((1024, flow.config.context_dim)))
    return jax.jit(jax.vmap(flow.init, (0, *(None,) * len(rows))))(keys, *rows)
