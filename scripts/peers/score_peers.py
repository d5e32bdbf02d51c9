"""One score network, trained and sampled by this library or by a loop of torch: one worker each.

python score_peers.py densityjax|torch: see `worker_loop` for what it is told and answers. The
data hold the network, a perceptron of SiLU with Fourier features of the noise level in EDM form,
so that both have the same: its score at given rows is written to the job's `answer`.
"""

import math
import os
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
from worker_loop import LEARNING_RATE, Arrays, seconds, serve

SIGMA = 0.1  # noise level of the chains, in standard deviations
STEP_SIZE = 0.01  # of the chains, squared standard deviations
LOG_MEAN, LOG_SD = -0.5, 1.2  # of the noise levels in training
FREQUENCIES = (0.25, 0.5, 1.0, 2.0)  # cycles per unit of ln(sigma) / 4
KINDS = ("train_step", "langevin")


def densityjax_call(job: dict[str, Any], data: Arrays) -> tuple[Callable[[], Any], Any]:
    """Returns what runs the job by this library, and the scores of the test rows."""
    import functools

    import jax
    import jax.numpy as jnp
    import optax

    from densityjax import models, samplers

    dim, width = data["test"].shape[1], data["hidden_0_bias"].size
    model = models.score_model(dim, network="mlp", width=width, num_hidden=job["num_hidden"])
    params = model.init(jax.random.key(0), jnp.asarray(data["test"]))
    params["standardiser"] = {"location": jnp.zeros(dim), "scale": jnp.ones(dim)}
    params["network"] = {
        layer: {name: jnp.asarray(data[f"{layer}_{name}"]) for name in ("kernel", "bias")}
        for layer in params["network"]
    }
    score = jax.jit(jax.vmap(lambda x: model.standard_score(params, x, SIGMA)))(data["test"])
    if job["kind"] == "langevin":

        @jax.jit
        def chains(params: Any, key: Any, starts: Any) -> Any:
            def one(key: Any, x: Any) -> Any:
                def score_fn(y: Any) -> Any:
                    return model.standard_score(params, y, SIGMA)

                step = functools.partial(
                    samplers.langevin.step, score_fn=score_fn, step_size=STEP_SIZE
                )
                first = samplers.langevin.init(x, score_fn)
                done = samplers.chain.run(
                    key, first, step, num_samples=job["num_steps"], collect=None
                )
                return done.final_state.position

            return jax.vmap(one)(jax.random.split(key, starts.shape[0]), starts)

        starts = jnp.asarray(data["x"])
        return lambda: jax.block_until_ready(chains(params, jax.random.key(1), starts)), score
    loss_fn, optimizer = models.score_loss(model).loss_fn, optax.adam(LEARNING_RATE)

    def mean_loss(network: Any, key: Any, rows: Any) -> Any:
        return jnp.mean(loss_fn({**params, "network": network}, key, rows, ())[0])

    def one_step(state: tuple, inputs: tuple) -> tuple[tuple, Any]:
        value, grads = jax.value_and_grad(mean_loss)(state[0], *inputs)
        updates, opt_state = optimizer.update(grads, state[1], state[0])
        return (optax.apply_updates(state[0], updates), opt_state), value

    compiled = jax.jit(functools.partial(jax.lax.scan, one_step))
    state = [(params["network"], optimizer.init(params["network"]))]
    batches = jnp.asarray(data["x"]).reshape(job["num_steps"], -1, dim)
    keys = jax.random.split(jax.random.key(2), job["num_steps"])

    def call() -> None:
        state[0], _ = jax.block_until_ready(compiled(state[0], (keys, batches)))

    return call, score


def torch_call(job: dict[str, Any], data: Arrays) -> tuple[Callable[[], Any], Any]:
    """Returns what runs the job by a loop of torch, and the scores of the test rows."""
    import torch  # pyright: ignore[reportMissingImports]

    layers = [f"hidden_{i}" for i in range(job["num_hidden"])] + ["output"]
    modules: list[Any] = []
    for name in layers:
        kernel = torch.from_numpy(data[f"{name}_kernel"])
        layer = torch.nn.Linear(*kernel.shape)
        with torch.no_grad():
            layer.weight.copy_(kernel.T)
            layer.bias.copy_(torch.from_numpy(data[f"{name}_bias"]))
        modules += [layer, torch.nn.SiLU()]
    network = torch.nn.Sequential(*modules[:-1])
    turns = 2.0 * math.pi * torch.tensor(FREQUENCIES)

    def score(y: Any, sigma: Any) -> Any:
        level = 0.25 * torch.log(sigma)
        features = torch.cat([level, torch.sin(level * turns), torch.cos(level * turns)], 1)
        variance = 1.0 + sigma**2
        root = torch.sqrt(variance)
        return -y / variance + network(torch.cat([y / root, features], 1)) / (sigma * root)

    def at_level(y: Any) -> Any:
        return score(y, torch.full((len(y), 1), SIGMA))

    with torch.inference_mode():
        found = at_level(torch.from_numpy(data["test"])).numpy()
    rows = torch.from_numpy(data["x"])
    if job["kind"] == "langevin":

        def chains() -> None:
            with torch.inference_mode():
                y, spread = rows, math.sqrt(2.0 * STEP_SIZE)
                for _ in range(job["num_steps"]):
                    y = y + STEP_SIZE * at_level(y) + spread * torch.randn_like(y)

        return chains, found
    optimizer = torch.optim.Adam(network.parameters(), lr=LEARNING_RATE)

    def steps() -> None:
        for batch in rows.reshape(job["num_steps"], -1, rows.shape[1]):
            sigma = torch.exp(LOG_MEAN + LOG_SD * torch.randn(len(batch), 1))
            noise = torch.randn_like(batch)
            error = sigma * score(batch + sigma * noise, sigma) + noise
            loss = ((1.0 + sigma**2) * error**2).sum(1).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    return steps, found


CALLS = {"densityjax": densityjax_call, "torch": torch_call}


class Scores:
    """One of the two, as the worker loop sees it."""

    def __init__(self, name: str) -> None:
        """Keeps the name: 'densityjax' or 'torch'."""
        self.name = name
        self.packages = (name, "numpy")

    def prepare(
        self, job: dict[str, Any], data: Arrays
    ) -> tuple[Callable[[], Any], dict[str, int]]:
        """Returns what runs the job once; the scores of the test rows are written down."""
        if job["kind"] not in KINDS:
            raise ValueError(f"kind is {job['kind']!r}: accepted are {KINDS}")
        call, score = CALLS[self.name](job, data)
        np.save(job["answer"], np.asarray(score))
        return call, {"threads": _faster_threads(call) if self.name == "torch" else 0}

    def fit(self, job: dict[str, Any], data: Arrays) -> dict[str, Any]:
        """Refuses: nothing is fitted here."""
        raise ValueError(f"op is 'fit' for {self.name}: accepted are versions, prepare, go")


def _faster_threads(call: Callable[[], Any]) -> int:
    """Gives torch one thread or all there are, whichever is faster: small sizes lose by more."""
    import torch  # pyright: ignore[reportMissingImports]

    taken = {}
    for threads in sorted({1, int(os.environ["DENSITYJAX_THREADS"])}):
        torch.set_num_threads(threads)
        call()
        taken[threads] = min(seconds(call) for _ in range(2))
    best = min(taken, key=lambda threads: taken[threads])
    torch.set_num_threads(best)
    return best


if __name__ == "__main__":
    serve(Scores(sys.argv[1]))
