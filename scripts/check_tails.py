"""Prints what tail layers are worth where it counts: on the worst rows of heavy-tailed laws.

python scripts/check_tails.py               # six seeds of each law, about two minutes
python scripts/check_tails.py --seeds 2

One spline layer of 8 bins, without a context, is fitted to 3,000 rows of each law, stopped on 1,000
more and judged on 100,000. Laws: Student's t with 3 degrees of freedom; the skew t of Jones and
Faddy (2003) with tail indices 3 and 8; a GARCH(1, 1) path with t steps of 6 degrees of freedom.
Each number is in nats: the mean negative log-likelihood of all test rows, of the worst 1 % of them
under the model itself, and the latter for the worst seed. `truth` is the law itself, where its
density is known; a GARCH path has none that does not know the past.
"""

import argparse
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats

from densityjax import losses, training
from densityjax.models import Flow, neural_spline_flow

NUM_TRAIN, NUM_VALIDATION, NUM_TEST = 3_000, 1_000, 100_000
NUM_EPOCHS, BATCH_SIZE = 100, 250
TAILS = ("none", "lambert_w", "gpd")
SKEW_T = stats.jf_skew_t(1.5, 4.0)  # tail indices are twice its parameters
GARCH = (0.05, 0.10, 0.85)  # constant, weight of the last square, persistence; variance 1


def garch_path(rng: np.random.Generator, size: int) -> np.ndarray:
    """Draws a GARCH(1, 1) path of unit variance with t steps of 6 degrees of freedom."""
    constant, arch, garch = GARCH
    steps = rng.standard_t(6.0, size) * np.sqrt(4.0 / 6.0)
    path, variance = np.empty(size), 1.0
    for t, step in enumerate(steps):
        path[t] = np.sqrt(variance) * step
        variance = constant + arch * path[t] ** 2 + garch * variance
    return path


LAWS: dict[str, tuple[Callable, Any]] = {
    "t3": (lambda rng, size: rng.standard_t(3.0, size), stats.t(3.0)),
    "skew t": (lambda rng, size: SKEW_T.rvs(size, random_state=rng), SKEW_T),
    "GARCH-t6": (garch_path, None),
}


@functools.cache
def compiled_init(flow: Flow) -> Callable:
    """Returns the compiled start of a flow."""
    return jax.jit(flow.init)


def fit(flow: Flow, rows: np.ndarray, seed: int) -> Any:
    """Fits a flow to the first rows, stopped on the others; returns its parameters."""

    def loss(params: Any, key: jax.Array, batch: jax.Array, state: Any) -> tuple:
        one = jax.vmap(
            lambda x: losses.negative_log_likelihood(lambda x: flow.log_prob(params, x), x)
        )
        return one(batch), state, ()

    train, validation = (
        jnp.asarray(part, jnp.float32)[:, None] for part in np.split(rows, [NUM_TRAIN])
    )
    init_key, fit_key = jax.random.split(jax.random.key(seed))
    return training.fit(
        fit_key,
        loss,
        compiled_init(flow)(init_key, train),
        train,
        validation=validation,
        optimizer=training.adamw(
            num_steps=NUM_EPOCHS * NUM_TRAIN // BATCH_SIZE, learning_rate=5e-3
        ),
        num_epochs=NUM_EPOCHS,
        batch_size=BATCH_SIZE,
    ).params


def scores(loss: np.ndarray) -> tuple[float, float]:
    """Returns the mean of all losses and that of the largest hundredth."""
    return float(loss.mean()), float(np.sort(loss)[-len(loss) // 100 :].mean())


def main(arguments: Sequence[str] | None = None) -> dict[str, dict[str, np.ndarray]]:
    """Reads the arguments, prints one table per law; returns law -> tail -> [seeds, 2] scores."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--seeds", type=int, default=6, help="draws of each law, and fits")
    options = parser.parse_args(arguments)
    flows = {tail: neural_spline_flow(1, num_layers=1, num_bins=8, tail=tail) for tail in TAILS}
    log_probs = {tail: jax.jit(jax.vmap(flow.log_prob, (None, 0))) for tail, flow in flows.items()}
    results: dict[str, dict[str, np.ndarray]] = {}
    for name, (draw, truth) in LAWS.items():
        found: dict[str, list] = {tail: [] for tail in (*TAILS, *(["truth"] if truth else []))}
        for seed in range(options.seeds):
            rng = np.random.default_rng(seed)
            rows = draw(rng, NUM_TRAIN + NUM_VALIDATION + NUM_TEST)
            test = rows[NUM_TRAIN + NUM_VALIDATION :]
            for tail, flow in flows.items():
                params = fit(flow, rows[: NUM_TRAIN + NUM_VALIDATION], seed)
                log_prob = log_probs[tail](params, test[:, None].astype(np.float32))
                found[tail].append(scores(-np.asarray(log_prob, float)))
            if truth:
                found["truth"].append(scores(-truth.logpdf(test)))
        results[name] = {tail: np.asarray(values) for tail, values in found.items()}
        print(f"\n{name:<12}{'all rows':>10}{'worst 1 %':>12}{'worst seed':>12}")
        for tail, values in results[name].items():
            print(f"{tail:<12}{values[:, 0].mean():>10.4f}{values[:, 1].mean():>12.2f}", end="")
            print(f"{values[:, 1].max():>12.2f}")
    return results


if __name__ == "__main__":
    main()
