"""Worker of zuko: `NICE` with splines and checkered masks; in 1-D, `MAF` with splines.

These are its `NSF` but for the bound of the splines, which that class does not let one choose.
"""

import functools
from typing import Any

import torch_library
import worker_loop
import zuko  # pyright: ignore[reportMissingImports]


def build(flow: dict[str, Any], width: int) -> Any:
    """Builds the flow; `num_hidden` are hidden layers."""
    bins = flow["num_bins"]
    make = zuko.flows.MAF if flow["dim"] == 1 else zuko.flows.NICE
    return make(
        flow["dim"],
        flow["context_dim"],
        transforms=flow["num_layers"],
        univariate=functools.partial(zuko.transforms.MonotonicRQSTransform, bound=flow["bound"]),
        shapes=[(bins,), (bins,), (bins - 1,)],
        hidden_features=[width] * flow["num_hidden"],
    )


def main() -> None:
    """Serves until the other side closes."""
    worker_loop.serve(
        torch_library.TorchLibrary(
            ("zuko", "torch", "numpy"),
            build,
            lambda module, x, context: module(context).log_prob(x),
            lambda module, num_rows: module().sample((num_rows,)),
        )
    )


if __name__ == "__main__":
    main()
