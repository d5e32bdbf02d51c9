"""Fits energy models to known laws by every loss, at equal compute, and prints what each recovers.

python scripts/check_energy_models.py                      # all laws and methods, an hour or so
python scripts/check_energy_models.py --laws mixture --methods nce pcd dsm --evaluations 2e6

All methods get the same network, base and budget: so many evaluations of the
energy in training, a gradient in x counted as two. One line per law and method, means over repeats
with half-widths of 95 percent intervals behind the first two. On test rows of the law: the
correlation of the normalised log p with the truth; the mean of truth minus estimate, which is the
divergence in nats; the same error with its sign dropped after its mean is taken off; the area under
the ROC curve of far points (uniform in a box twice as wide as the data) against test rows; the
share of random rays along which the energy rises from 10 to 10,000 standard deviations; the share
of proposals that count in log Z; and seconds to fit, compilation included.
"""

import argparse
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from densityjax import models, targets
from densityjax.densities import partition_function
from densityjax.training import adamw, fit

LAWS: dict[str, Callable[[], targets.Target]] = {
    "mixture": targets.separated_mixture,
    "regimes": targets.two_regimes,
    "banana": targets.banana,
    "funnel": lambda: targets.funnel(2, log_scale_sd=1.0),
    "student_t": lambda: targets.student_t(np.zeros(2), np.eye(2), dof=5.0),
}
METHODS = ("nce", "ranking", "snl", "cnce", "dsm", "ssm", "cd", "pcd", "short_run")
NUM_NOISE = 4
NUM_STEPS = 20  # of a chain
STEP_SIZES = {"cd": 0.05, "pcd": 0.1, "short_run": 0.1}  # in squared sd, of MALA
# Evaluations of the energy for each row and step of the optimiser; its own gradient not counted.
COST = {
    "nce": 1 + NUM_NOISE,
    "ranking": 1 + NUM_NOISE,
    "snl": 1 + NUM_NOISE,
    "cnce": 1 + NUM_NOISE,
    "dsm": 2,
    "ssm": 4,
    "cd": 2 + 2 * NUM_STEPS,
    "pcd": 2 + 2 * NUM_STEPS,
    "short_run": 2 + 2 * NUM_STEPS,
}


class Found(NamedTuple):
    """What one fit recovers; see the top of the file."""

    correlation: float
    divergence: float
    error: float
    auroc: float
    rays: float
    share: float
    seconds: float


def draw(law: targets.Target, seed: int, num: int) -> jax.Array:
    """Draws rows, [num, D], of the law."""
    return jax.jit(jax.vmap(law.sample))(jax.random.split(jax.random.key(seed), num))


def wide_t(rows: jax.Array) -> targets.Target:
    """Returns the noise and proposal: a Student t with the mean and covariance of the rows."""
    values = np.asarray(rows, np.float64)
    return targets.student_t(values.mean(0), np.atleast_2d(np.cov(values.T)), dof=5.0)


def log_probs(law: targets.Target, rows: jax.Array) -> np.ndarray:
    """Returns log densities of rows, [N], a block at a time."""
    return np.asarray(jax.lax.map(law.log_prob, rows, batch_size=2048), np.float64)


def fitted(
    method: str, train: jax.Array, validation: jax.Array, options: argparse.Namespace, seed: int
) -> tuple[models.Energy, Any, targets.Target]:
    """Fits one energy; returns it, its parameters and the proposal."""
    model = models.energy_model(train.shape[1], widths=(128, 64, 32), base=options.base)
    start = model.init(jax.random.key(seed), train)
    noise = wide_t(train)
    rows = draw(noise, seed + 1, options.pool)
    pool = models.NoisePool(rows, jnp.asarray(log_probs(noise, rows), jnp.float32))
    buffer = None
    if method == "pcd":
        buffer = models.start_buffer(jax.random.key(seed + 2), model, start, 4_096)
    loss = models.energy_loss(
        model,
        method=method,
        num_noise=NUM_NOISE,
        sigma=options.sigma,
        chains=models.Chains(num_steps=NUM_STEPS, step_size=STEP_SIZES.get(method, 0.05)),
    )
    epochs = max(round(options.evaluations / (COST[method] * len(train))), 1)
    steps = epochs * -(-len(train) // options.batch)

    def with_noise(rows: jax.Array) -> tuple[jax.Array, jax.Array]:
        return rows, jnp.asarray(log_probs(noise, rows), jnp.float32)

    result = fit(
        jax.random.key(seed + 3),
        loss.loss_fn,
        start,
        with_noise(train),
        validation=with_noise(validation),
        validation_loss_fn=loss.validation_loss_fn,
        optimizer=adamw(num_steps=steps, learning_rate=options.rate),
        num_epochs=epochs,
        batch_size=options.batch,
        patience=epochs,
        chunk_epochs=epochs,
        loss_state=models.EnergyState(pool, buffer),
    )
    return model, jax.tree.map(jnp.asarray, result.params), noise


def share_of_rising_rays(energy: Callable, rows: jax.Array) -> float:
    """Returns the share of random rays along which the energy rises at every factor of ten."""
    ray = np.random.default_rng(0).standard_normal((200, rows.shape[1]))
    ray *= np.asarray(rows.std(axis=0)) / np.linalg.norm(ray, axis=1, keepdims=True)
    radii = np.array([10.0, 100.0, 1e3, 1e4])[:, None, None]
    points = np.asarray(rows.mean(axis=0)) + radii * ray
    along = energy(jnp.asarray(points.reshape(-1, ray.shape[1]), jnp.float32)).reshape(4, -1)
    return float((np.diff(along, axis=0) > 0.0).all(axis=0).mean())


def check(law_name: str, method: str, options: argparse.Namespace, seed: int) -> Found:
    """Fits one energy to one law and measures it."""
    law = LAWS[law_name]()
    train, validation, test = (
        draw(law, 10 * seed + part, num)
        for part, num in ((1, options.rows), (2, 2_000), (3, options.test_rows))
    )
    start = time.perf_counter()
    model, params, noise = fitted(method, train, validation, options, 100 * seed)
    seconds = time.perf_counter() - start
    compiled = jax.jit(jax.vmap(model.energy, (None, 0)))

    def energy(rows: jax.Array) -> np.ndarray:
        return np.asarray(compiled(params, rows), np.float64)

    proposals = draw(noise, 10 * seed + 4, options.proposals)
    found = partition_function.importance_sampling(
        jnp.asarray(-energy(proposals)), jnp.asarray(log_probs(noise, proposals))
    )
    estimate, truth = -energy(test) - float(found.log_z), log_probs(law, test)
    error = truth - estimate
    low, high = np.asarray(test.min(axis=0)), np.asarray(test.max(axis=0))
    uniform = np.random.default_rng(seed).random(test.shape) - 0.5
    far = jnp.asarray(0.5 * (low + high) + 2.0 * (high - low) * uniform, jnp.float32)
    is_far = np.concatenate([np.ones(len(test)), np.zeros(len(test))])
    scores = np.concatenate([energy(far), energy(test)])
    return Found(
        float(np.corrcoef(estimate, truth)[0, 1]),
        float(error.mean()),
        float(np.abs(error - error.mean()).mean()),
        auroc(scores, is_far > 0.5),
        share_of_rising_rays(energy, train),
        float(found.effective_sample_size) / options.proposals,
        seconds,
    )


def auroc(score: np.ndarray, is_positive: np.ndarray) -> float:
    """Returns the area under the ROC curve: how often a positive outranks a negative."""
    order = np.argsort(score, kind="stable")
    rank = np.empty(score.size)
    rank[order] = np.arange(1, score.size + 1)
    num = int(is_positive.sum())
    below = rank[is_positive].sum() - num * (num + 1) / 2.0
    return float(below / (num * (score.size - num)))


def line(law_name: str, method: str, repeats: list[Found]) -> str:
    """Returns the line of several fits."""
    table = np.array(repeats)
    mean = Found(*table.mean(axis=0))
    reach = Found(*(1.96 * table.std(axis=0, ddof=1) / len(table) ** 0.5 if len(table) > 1 else
                    np.full(table.shape[1], np.nan)))  # fmt: skip
    return (
        f"{law_name:<10}{method:<10}{mean.correlation:>8.4f}{reach.correlation:>8.4f}"
        f"{mean.divergence:>8.3f}{reach.divergence:>8.3f}{mean.error:>8.3f}{mean.auroc:>8.4f}"
        f"{mean.rays:>6.2f}{mean.share:>7.3f}{mean.seconds:>8.1f}"
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Reads the arguments and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--laws", nargs="+", choices=sorted(LAWS), default=list(LAWS))
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--base", choices=("normal", "student_t"), default="normal")
    parser.add_argument("--rows", type=int, default=10_000, help="training rows")
    parser.add_argument("--test-rows", type=int, default=2_000)
    parser.add_argument("--evaluations", type=float, default=5e6, help="of the energy, in a fit")
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--rate", type=float, default=0.002, help="peak learning rate")
    parser.add_argument("--sigma", type=float, default=0.1, help="noise of dsm and cnce, in sd")
    parser.add_argument("--pool", type=int, default=20_000, help="rows of noise")
    parser.add_argument("--proposals", type=int, default=20_000)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args(arguments)
    columns = ("corr", "+-", "KL", "+-", "error", "AUROC", "rays", "ESS", "fit s")
    widths = (8, 8, 8, 8, 8, 8, 6, 7, 8)
    heads = "".join(f"{name:>{width}}" for name, width in zip(columns, widths, strict=True))
    print(f"{'law':<10}{'method':<10}{heads}")
    for law_name in options.laws:
        for method in options.methods:
            found = [check(law_name, method, options, seed + 1) for seed in range(options.repeats)]
            print(line(law_name, method, found), flush=True)


if __name__ == "__main__":
    main()
