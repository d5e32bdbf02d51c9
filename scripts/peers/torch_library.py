"""What the workers of both torch libraries share: eager training steps, fits, evaluation.

Used as the libraries' own pages show it: a module, `-log_prob.mean()`, an optimiser of torch, and
`torch.inference_mode` where nothing is learnt. No `torch.compile`, which neither page shows.
"""

import copy
import os
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch  # pyright: ignore[reportMissingImports]
import worker_loop


class TorchLibrary(NamedTuple):
    """A torch library as `worker_loop.serve` takes it; rows are [N, D], contexts [N, C] or None.

    Attributes:
      packages: packages whose versions matter.
      build: (flow, width) -> module; `flow` is the description in the job.
      log_prob: (module, rows, contexts) -> [N].
      sample: (module, number of rows) -> [N, D].
    """

    packages: tuple[str, ...]
    build: Callable[..., Any]
    log_prob: Callable[..., Any]
    sample: Callable[..., Any]

    def prepare(
        self, job: dict[str, Any], data: worker_loop.Arrays
    ) -> tuple[Callable[[], Any], dict[str, int]]:
        """Returns what runs the job once, and its parameters and threads."""
        torch.manual_seed(job["seed"])
        module = self._new(job)
        tensors = {name: torch.from_numpy(array) for name, array in data.items()}
        if job["kind"] == "train_step":
            optimizer = torch.optim.Adam(module.parameters(), lr=worker_loop.LEARNING_RATE)

            def call() -> None:
                for rows in tensors["x"]:
                    self._step(module, optimizer, rows, None)

        elif job["kind"] in ("log_prob", "sample"):

            def call() -> None:
                with torch.inference_mode():
                    if job["kind"] == "sample":
                        self.sample(module, job["num_rows"])
                    else:
                        self.log_prob(module, tensors["x"], None)

        elif job["kind"] == "ensemble":

            def call() -> None:
                for member in range(job["num_members"]):
                    self._train(self._new(job), {**job, "seed": job["seed"] + member}, tensors)

        else:
            raise ValueError(f"kind is {job['kind']!r}: accepted is none such")
        return call, {"parameters": _num_parameters(module), "threads": _faster_threads(call)}

    def fit(self, job: dict[str, Any], data: worker_loop.Arrays) -> dict[str, Any]:
        """Fits one flow and returns the mean log density of the test rows."""
        torch.set_num_threads(1)  # nothing is timed, and small flows gain nothing from more
        torch.manual_seed(job["seed"])
        module = self._new(job)
        tensors = {name: torch.from_numpy(array) for name, array in data.items()}
        steps, best_epoch = self._train(module, job, tensors)
        return {
            "parameters": _num_parameters(module),
            "steps": steps,
            "best_epoch": best_epoch,
            "log_prob": self._mean_log_prob(module, tensors, "test"),
        }

    def _new(self, job: dict[str, Any]) -> Any:
        def count(width: int) -> int:
            return _num_parameters(self.build(job["flow"], width))

        flow = job["flow"]
        width = worker_loop.matched_width(count, job.get("parameters"), flow["width"])
        return self.build(flow, width)

    def _step(
        self, module: Any, optimizer: Any, x: Any, context: Any, clip_norm: float | None = None
    ) -> None:
        loss = -self.log_prob(module, x, context).mean()
        optimizer.zero_grad()
        loss.backward()
        if clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(module.parameters(), clip_norm)
        optimizer.step()

    def _train(self, module: Any, job: dict[str, Any], data: dict[str, Any]) -> tuple[int, int]:
        """Trains in place, ends at the best epoch; returns the steps run and that epoch."""
        x, context = data["x_train"], data.get("context_train")
        optimizer = torch.optim.AdamW(
            module.parameters(),
            worker_loop.learning_rate(job),
            weight_decay=worker_loop.WEIGHT_DECAY,
        )
        total = worker_loop.num_steps(job, len(x))
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, total)
        rng = np.random.default_rng(job["seed"])
        best, best_epoch, steps, kept = np.inf, 0, 0, copy.deepcopy(module.state_dict())
        for epoch in range(job["num_epochs"]):
            for rows in torch.from_numpy(worker_loop.epoch_batches(rng, len(x), job["batch_size"])):
                contexts = None if context is None else context[rows]
                self._step(module, optimizer, x[rows], contexts, worker_loop.CLIP_NORM)
                schedule.step()
                steps += 1
            loss = -self._mean_log_prob(module, data, "validation")
            if loss < best:
                best, best_epoch, kept = loss, epoch, copy.deepcopy(module.state_dict())
            if epoch - best_epoch >= job["patience"]:
                break
        module.load_state_dict(kept)
        return steps, best_epoch

    def _mean_log_prob(self, module: Any, data: dict[str, Any], part: str) -> float:
        x, context = data[f"x_{part}"], data.get(f"context_{part}")
        total = 0.0
        with torch.inference_mode():
            for start in range(0, len(x), worker_loop.EVALUATION_ROWS):
                rows = slice(start, start + worker_loop.EVALUATION_ROWS)
                contexts = None if context is None else context[rows]
                total += float(self.log_prob(module, x[rows], contexts).double().sum())
        return total / len(x)


def _num_parameters(module: Any) -> int:
    return sum(each.numel() for each in module.parameters() if each.requires_grad)


def _faster_threads(call: Callable[[], Any]) -> int:
    """Sets the threads to one or all there are, whichever runs the job faster: small sizes lose."""
    taken = {}
    for threads in sorted({1, int(os.environ["DENSITYJAX_THREADS"])}):
        torch.set_num_threads(threads)
        call()
        taken[threads] = min(worker_loop.seconds(call) for _ in range(2))
    best = min(taken, key=lambda threads: taken[threads])
    torch.set_num_threads(best)
    return best
