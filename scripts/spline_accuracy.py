"""Prints the rounding errors of spline forms in single precision, ours beside the usual ones.

python scripts/spline_accuracy.py                 # logits of scale 1, 4 and 8
python scripts/spline_accuracy.py --scales 2 20   # others

Each number is the largest absolute error over all splines and inputs: x and y in units of the
interval [-3, 3], log slopes in nats. Inputs are uniform, or just below a knot. The round trip
rounds y to single precision between the directions, which no form can undo.
"""

import argparse
from collections.abc import Sequence

from densityjax.distributions import spline_accuracy


def main(arguments: Sequence[str] | None = None) -> None:
    """Reads the arguments and prints one table per kind of input and scale."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--scales", type=float, nargs="+", default=[1.0, 4.0, 8.0])
    parser.add_argument("--splines", type=int, default=64, help="random splines")
    parser.add_argument("--inputs", type=int, default=2_000, help="inputs of each spline")
    parser.add_argument("--seed", type=int, default=0, help="of knots and inputs")
    options = parser.parse_args(arguments)
    columns = ("y", "log dy/dx", "x", "log dx/dy", "round trip", "not finite")
    for near in (False, True):
        for scale in options.scales:
            errors = spline_accuracy.measure(
                scale,
                near=near,
                num_splines=options.splines,
                num_inputs=options.inputs,
                seed=options.seed,
            )
            where = "just below a knot" if near else "uniform"
            print(f"\ninputs {where}, logits of scale {scale:g}")
            print(f"{'':<16}" + "".join(f"{name:>12}" for name in columns))
            for name, row in errors.items():
                numbers = "".join(f"{value:>12.1e}" for value in row[:-1])
                print(f"{name:<16}{numbers}{row[-1]:>12}")


if __name__ == "__main__":
    main()
