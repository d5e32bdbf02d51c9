"""Worker of this library: `neural_spline_flow` and `densityjax.training`.

`options` of a job's flow are further fields of `FlowConfig`.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import worker_loop

from densityjax import losses, models, training

INIT_ROWS = 1024  # rows that set standardisers and tails where nothing is fitted


def build(job: dict[str, Any]) -> models.Flow:
    """Builds the flow of a job, its width matched to the parameters wanted, if any are."""
    flow = job["flow"]
    names = ("dim", "context_dim", "num_layers", "num_bins", "num_hidden", "bound")
    make = functools.partial(
        models.neural_spline_flow, **{name: flow[name] for name in names}, **flow["options"]
    )

    def count(width: int) -> int:
        rows = [jnp.zeros((2, size)) for size in (flow["dim"], flow["context_dim"]) if size]
        return num_parameters(jax.eval_shape(make(width=width).init, jax.random.key(0), *rows))

    return make(width=worker_loop.matched_width(count, job.get("parameters"), flow["width"]))


def num_parameters(params: dict[str, Any]) -> int:
    """Returns how many numbers are learnt: the standardisers are not."""
    learnt = {name: leaf for name, leaf in params.items() if "standardiser" not in name}
    return sum(leaf.size for leaf in jax.tree.leaves(learnt))


@functools.lru_cache(maxsize=8)
def row_loss(flow: models.Flow) -> Callable:
    """Returns the loss of each row of a batch, as `training.fit` takes it."""

    def loss(params: Any, key: Any, batch: tuple, loss_state: Any) -> tuple:
        one = functools.partial(
            losses.negative_log_likelihood, functools.partial(flow.log_prob, params)
        )
        return jax.vmap(one)(*batch), loss_state, ()

    return loss


class Densityjax:
    """This library as `worker_loop.serve` takes it."""

    packages = ("densityjax", "jax", "jaxlib", "flax", "optax", "numpy")

    def prepare(
        self, job: dict[str, Any], data: worker_loop.Arrays
    ) -> tuple[Callable[[], Any], dict[str, int]]:
        """Returns what runs the job once, and the number of parameters."""
        flow, key = build(job), jax.random.key(job["seed"])
        if job["kind"] == "ensemble":
            return _ensemble(flow, key, job, data)
        tensors = {name: jnp.asarray(array) for name, array in data.items()}
        params = jax.jit(flow.init)(key, tensors["x"].reshape(-1, flow.config.dim)[:INIT_ROWS])
        if job["kind"] == "train_step":
            call = _train_steps(flow, params, tensors["x"])
        elif job["kind"] == "log_prob":
            log_prob = jax.jit(jax.vmap(flow.log_prob, (None, 0)))

            def call() -> None:
                jax.block_until_ready(log_prob(params, tensors["x"]))

        elif job["kind"] == "sample":
            call = _sample(flow, params, key, job["num_rows"])
        else:
            raise ValueError(f"kind is {job['kind']!r}: accepted is none such")
        return call, {"parameters": num_parameters(params)}

    def fit(self, job: dict[str, Any], data: worker_loop.Arrays) -> dict[str, Any]:
        """Fits one flow and returns the mean log density of the test rows."""
        flow = build(job)
        rows = _part(data, "train")
        init_key, fit_key = jax.random.split(jax.random.key(job["seed"]))
        result = training.fit(
            fit_key,
            row_loss(flow),
            jax.jit(flow.init)(init_key, *rows),
            rows,
            validation=_part(data, "validation"),
            **_budget(job, len(rows[0])),
        )
        log_prob = jax.jit(jax.vmap(functools.partial(flow.log_prob, result.params)))
        test = _part(data, "test")
        steps = worker_loop.num_steps({**job, "num_epochs": int(result.num_epochs)}, len(rows[0]))
        return {
            "parameters": num_parameters(result.params),
            "steps": steps,
            "best_epoch": int(result.best_epoch),
            "log_prob": float(np.asarray(log_prob(*test), np.float64).mean()),
        }


def _part(data: worker_loop.Arrays, part: str) -> tuple:
    names = (f"x_{part}", f"context_{part}")
    return tuple(jnp.asarray(data[name]) for name in names if name in data)


def _budget(job: dict[str, Any], num_rows: int) -> dict[str, Any]:
    """The arguments of a fit that are the same for every library."""
    optimizer = training.adamw(
        num_steps=worker_loop.num_steps(job, num_rows),
        learning_rate=worker_loop.learning_rate(job),
        weight_decay=worker_loop.WEIGHT_DECAY,
        clip_norm=worker_loop.CLIP_NORM,
    )
    names = ("num_epochs", "batch_size", "patience")
    return {"optimizer": optimizer, **{name: job[name] for name in names}}


def _ensemble(
    flow: models.Flow, key: Any, job: dict[str, Any], data: worker_loop.Arrays
) -> tuple[Callable[[], None], dict[str, int]]:
    """All members in one program: the start, its standardisers and tails, belongs to the fit."""
    rows, num_members = _part(data, "train"), job["num_members"]
    keys = jax.random.split(key, num_members)
    init = jax.jit(jax.vmap(flow.init, (0, *(None,) * len(rows))))
    budget = _budget(job, len(rows[0]))
    validation = _part(data, "validation")

    def call() -> None:
        params = init(keys, *rows)
        training.fit_ensemble(
            keys, row_loss(flow), params, rows, validation=validation, **budget
        )  # hands over host arrays: all is done on return

    shapes = jax.eval_shape(flow.init, key, *rows)
    return call, {"parameters": num_parameters(shapes)}


def _train_steps(flow: models.Flow, params: Any, batches: Any) -> Callable[[], None]:
    """Steps of plain Adam, scanned in one program as a fit scans them."""
    optimizer, row_losses = optax.adam(worker_loop.LEARNING_RATE), row_loss(flow)

    def mean_loss(params: Any, rows: Any) -> Any:
        return jnp.mean(row_losses(params, None, (rows,), ())[0])

    def one_step(state: tuple, rows: Any) -> tuple[tuple, Any]:
        value, grads = jax.value_and_grad(mean_loss)(state[0], rows)
        updates, opt_state = optimizer.update(grads, state[1], state[0])
        return (optax.apply_updates(state[0], updates), opt_state), value

    compiled = jax.jit(functools.partial(jax.lax.scan, one_step))
    state = [(params, optimizer.init(params))]

    def call() -> None:
        state[0], _ = jax.block_until_ready(compiled(state[0], batches))

    return call


def _sample(flow: models.Flow, params: Any, key: Any, num_rows: int) -> Callable[[], None]:
    """Samples from one key a call, split inside of the program."""

    def rows(key: Any, params: Any) -> Any:
        return jax.vmap(flow.sample, (0, None))(jax.random.split(key, num_rows), params)

    compiled, keys = jax.jit(rows), [key]

    def call() -> None:
        keys[0], own = jax.random.split(keys[0])
        jax.block_until_ready(compiled(own, params))

    return call


if __name__ == "__main__":
    worker_loop.serve(Densityjax())
