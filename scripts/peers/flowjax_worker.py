"""Worker of flowjax: its spline couplings; in 1-D, its masked autoregressive flow.

Training is its own compiled `step`, one call a step as in its `fit_to_data`, which itself takes no
validation rows from outside and so cannot stop on the same ones.
"""

from collections.abc import Callable
from typing import Any

import equinox as eqx  # pyright: ignore[reportMissingImports]
import jax
import jax.numpy as jnp
import numpy as np
import optax
import paramax  # pyright: ignore[reportMissingImports]
import worker_loop
from flowjax import bijections, distributions, flows  # pyright: ignore[reportMissingImports]
from flowjax.train import losses, train_utils  # pyright: ignore[reportMissingImports]

PACKAGES = ("flowjax", "jax", "jaxlib", "equinox", "optax", "numpy")
LOSS = losses.MaximumLikelihoodLoss()

log_prob = eqx.filter_jit(lambda flow, x, context: flow.log_prob(x, context))
sample = eqx.filter_jit(lambda flow, key, num_rows: flow.sample(key, (num_rows,)))


def build(flow: dict[str, Any], width: int, seed: int) -> Any:
    """Builds the flow; `num_hidden` are hidden layers, knots those inside of the interval."""
    make = flows.masked_autoregressive_flow if flow["dim"] == 1 else flows.coupling_flow
    return make(
        jax.random.key(seed),
        base_dist=distributions.Normal(jnp.zeros(flow["dim"])),
        transformer=bijections.RationalQuadraticSpline(
            knots=flow["num_bins"] - 1, interval=flow["bound"]
        ),
        cond_dim=flow["context_dim"] or None,
        flow_layers=flow["num_layers"],
        nn_width=width,
        nn_depth=flow["num_hidden"],
    )


def parts(flow: Any) -> tuple[Any, Any]:
    """Splits a flow into what is learnt and the rest, as its `fit_to_data` does."""
    return eqx.partition(
        flow, eqx.is_inexact_array, is_leaf=lambda leaf: isinstance(leaf, paramax.NonTrainable)
    )


def num_parameters(flow: Any) -> int:
    """Returns how many numbers are learnt."""
    return sum(leaf.size for leaf in jax.tree.leaves(parts(flow)[0]))


class Flowjax:
    """flowjax as `worker_loop.serve` takes it."""

    packages = PACKAGES

    def prepare(
        self, job: dict[str, Any], data: worker_loop.Arrays
    ) -> tuple[Callable[[], Any], dict[str, int]]:
        """Returns what runs the job once, and the number of parameters."""
        flow = _new(job, job["seed"])
        tensors = {name: jnp.asarray(array) for name, array in data.items()}
        if job["kind"] == "train_step":
            optimizer = optax.adam(worker_loop.LEARNING_RATE)
            params, static = parts(flow)
            state = [params, optimizer.init(params)]
            batches = list(tensors["x"])

            def call() -> None:
                for rows in batches:
                    state[:] = _step(state[0], static, optimizer, state[1], rows)
                jax.block_until_ready(state)

        elif job["kind"] in ("log_prob", "sample"):
            keys = [jax.random.key(job["seed"])]

            def call() -> None:
                if job["kind"] == "sample":
                    keys[0], key = jax.random.split(keys[0])
                    jax.block_until_ready(sample(flow, key, job["num_rows"]))
                else:
                    jax.block_until_ready(log_prob(flow, tensors["x"], None))

        elif job["kind"] == "ensemble":
            num_steps = worker_loop.num_steps(job, len(data["x_train"]))
            optimizer = _optimizer(worker_loop.learning_rate(job), num_steps)
            seeds = range(job["seed"], job["seed"] + job["num_members"])
            # A flow built anew is traced anew, so members share what is not learnt of one.
            static = parts(flow)[1]
            starts = [eqx.combine(parts(_new(job, seed))[0], static) for seed in seeds]

            def call() -> None:
                for seed, start in zip(seeds, starts, strict=True):
                    _train(start, {**job, "seed": seed}, tensors, optimizer)

        else:
            raise ValueError(f"kind is {job['kind']!r}: accepted is none such")
        return call, {"parameters": num_parameters(flow)}

    def fit(self, job: dict[str, Any], data: worker_loop.Arrays) -> dict[str, Any]:
        """Fits one flow and returns the mean log density of the test rows."""
        tensors = {name: jnp.asarray(array) for name, array in data.items()}
        num_steps = worker_loop.num_steps(job, len(data["x_train"]))
        optimizer = _optimizer(worker_loop.learning_rate(job), num_steps)
        flow, steps, best_epoch = _train(_new(job, job["seed"]), job, tensors, optimizer)
        return {
            "parameters": num_parameters(flow),
            "steps": steps,
            "best_epoch": best_epoch,
            "log_prob": _mean_log_prob(flow, tensors, "test"),
        }


def _new(job: dict[str, Any], seed: int) -> Any:
    def count(width: int) -> int:
        learnt = eqx.filter_eval_shape(lambda: parts(build(job["flow"], width, seed))[0])
        return sum(leaf.size for leaf in jax.tree.leaves(learnt))

    flow = job["flow"]
    width = worker_loop.matched_width(count, job.get("parameters"), flow["width"])
    return build(flow, width, seed)


def _optimizer(learning_rate: float, num_steps: int) -> Any:
    schedule = optax.cosine_decay_schedule(learning_rate, num_steps)
    return optax.chain(
        optax.clip_by_global_norm(worker_loop.CLIP_NORM),
        optax.adamw(schedule, weight_decay=worker_loop.WEIGHT_DECAY),
    )


def _step(params: Any, static: Any, optimizer: Any, opt_state: Any, *rows: Any) -> tuple:
    return train_utils.step(
        params, static, *rows, optimizer=optimizer, opt_state=opt_state, loss_fn=LOSS
    )[:2]


def _train(
    flow: Any, job: dict[str, Any], data: dict[str, Any], optimizer: Any
) -> tuple[Any, int, int]:
    """Trains; returns the flow of the best epoch, the steps run and that epoch."""
    x, context = data["x_train"], data.get("context_train")
    params, static = parts(flow)
    opt_state = optimizer.init(params)
    rng = np.random.default_rng(job["seed"])
    best, best_epoch, steps, kept = np.inf, 0, 0, params
    for epoch in range(job["num_epochs"]):
        for rows in worker_loop.epoch_batches(rng, len(x), job["batch_size"]):
            batch = (x[rows],) if context is None else (x[rows], context[rows])
            params, opt_state = _step(params, static, optimizer, opt_state, *batch)
            steps += 1
        loss = -_mean_log_prob(eqx.combine(params, static), data, "validation")
        if loss < best:
            best, best_epoch, kept = loss, epoch, params
        if epoch - best_epoch >= job["patience"]:
            break
    return eqx.combine(kept, static), steps, best_epoch


def _mean_log_prob(flow: Any, data: dict[str, Any], part: str) -> float:
    x, context = data[f"x_{part}"], data.get(f"context_{part}")
    total = 0.0
    for start in range(0, len(x), worker_loop.EVALUATION_ROWS):
        rows = slice(start, start + worker_loop.EVALUATION_ROWS)
        contexts = None if context is None else context[rows]
        total += float(np.asarray(log_prob(flow, x[rows], contexts), np.float64).sum())
    return total / len(x)


def main() -> None:
    """Serves until the other side closes."""
    worker_loop.serve(Flowjax())


if __name__ == "__main__":
    main()
