"""Worker of nflows: couplings of mid-split halves that reverse in between; in 1-D, its MADE."""

from typing import Any

import torch_library
import worker_loop
from nflows import distributions, flows, transforms, utils  # pyright: ignore[reportMissingImports]
from nflows.nn import nets  # pyright: ignore[reportMissingImports]


class Perceptron(nets.MLP):
    """Its own perceptron, which is called with a context that it does not take."""

    def forward(self, inputs: Any, context: Any = None) -> Any:
        """Returns the logits of one half given the other."""
        return super().forward(inputs)


def build(flow: dict[str, Any], width: int) -> Any:
    """Builds the flow; `num_hidden` are hidden layers, and residual blocks of the MADE in 1-D."""
    splines = {
        "num_bins": flow["num_bins"],
        "tails": "linear",
        "tail_bound": flow["bound"],
    }
    layers = []
    for _ in range(flow["num_layers"]):
        if flow["dim"] == 1:
            layer = transforms.MaskedPiecewiseRationalQuadraticAutoregressiveTransform(
                features=1,
                hidden_features=width,
                context_features=flow["context_dim"] or None,
                num_blocks=flow["num_hidden"],
                **splines,
            )
        else:
            layers.append(transforms.ReversePermutation(flow["dim"]))
            layer = transforms.PiecewiseRationalQuadraticCouplingTransform(
                mask=utils.create_mid_split_binary_mask(flow["dim"]),
                transform_net_create_fn=lambda num_in, num_out: Perceptron(
                    (num_in,), (num_out,), [width] * flow["num_hidden"]
                ),
                **splines,
            )
        layers.append(layer)
    base = distributions.StandardNormal([flow["dim"]])
    return flows.Flow(transforms.CompositeTransform(layers), base)


def main() -> None:
    """Serves until the other side closes."""
    worker_loop.serve(
        torch_library.TorchLibrary(
            ("nflows", "torch", "numpy"),
            build,
            lambda module, x, context: module.log_prob(x, context=context),
            lambda module, num_rows: module.sample(num_rows),
        )
    )


if __name__ == "__main__":
    main()
