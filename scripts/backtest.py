"""Backtests one rule over a grid of parameters, with baselines and what luck alone would show.

python scripts/backtest.py --dataset nasdaq --rule momentum --grid decay=0:0.98:50
python scripts/backtest.py --bars my_bars.csv --rule threshold --grid entry_z=0:1:21 --out runs/a
python scripts/backtest.py --bars my_bars.csv --signals runs/NAME/signals.parquet --rule threshold

Without `--signals` what rules read is computed from the returns alone: exponentially weighted mean
and standard deviation, every state ordinary, the expected shortfall that of a normal law.
"""

import argparse
import json
import os
import pathlib
import shutil
import sys
from typing import Any, NoReturn

import jax
import numpy as np
import pandas as pd
from scipy import stats

from densityjax import __version__, backtest, market
from densityjax.backtest import inference, metrics, rules

REFUSED = 2
DECAY = 0.94  # of the exponentially weighted moments, a usual one for daily bars
MIN_HISTORY = 17  # returns, 1 / (1 - DECAY): with fewer the moments are noise
QUIET_STD = 1.0  # without history: a risk of the whole price, which no rule takes much of
STD_FLOOR = 1e-6  # a fraction of price: less in a bar is rounding of a price that stands still
CONFIDENCE = 0.99  # of the expected shortfall without a forecast
SHOWN = 10  # trades printed by --show-trades
RULES: dict[str, tuple[Any, Any, dict[str, Any], Any]] = {  # rule, parameters, grid, state
    "threshold": (
        rules.threshold_rule,
        rules.ThresholdParams,
        {"entry_z": np.linspace(0.0, 2.0, 21)},
        0.0,
    ),
    "momentum": (
        rules.momentum,
        rules.MomentumParams,
        {"decay": np.linspace(0.0, 0.98, 50)},
        0.0,
    ),
    "volatility_target": (
        rules.volatility_target,
        rules.VolatilityParams,
        {"target_volatility": np.linspace(0.001, 0.02, 20)},
        0.0,
    ),
    "buy_and_hold": (rules.buy_and_hold, rules.ConstantParams, {}, 0.0),
    "random": (
        rules.random_rule,
        rules.RandomParams,
        {"seed": np.arange(100)},
        rules.RandomState(),
    ),
}
BASELINES: dict[str, tuple[str, dict[str, float]]] = {
    "buy and hold": ("buy_and_hold", {}),
    "volatility target": ("volatility_target", {"target_volatility": 0.01}),
    "momentum": ("momentum", {"decay": 0.9}),
}
COLUMNS = (
    "total_return",
    "annual_return",
    "sharpe_ratio",
    "max_drawdown",
    "turnover",
    "num_closed_trades",
    "win_rate",
)


class Parser(argparse.ArgumentParser):
    """A parser that refuses in one line."""

    def error(self, message: str) -> NoReturn:
        """Says what is wrong and exits with status 2."""
        self.exit(REFUSED, f"error: {message} (--help lists what is accepted)\n")


def parse(words: list[str]) -> argparse.Namespace:
    """Reads the command line."""
    parser = Parser(description="Backtests one rule over a grid of parameters.")
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--dataset", help="nasdaq, sp500 or simulated")
    source.add_argument("--bars", metavar="FILE", help="CSV, CSV.gz or Parquet file of bars")
    parser.add_argument(
        "--signals", metavar="FILE.parquet", help="what rules read, by time; may hold bars too"
    )
    parser.add_argument("--rule", default="threshold", choices=sorted(RULES))
    parser.add_argument(
        "--grid",
        action="append",
        default=[],
        metavar="NAME=START:STOP:NUM",
        help="an axis of the grid, or NAME=VALUE; may be repeated",
    )
    parser.add_argument("--fee-bps", type=float, default=10.0, help="fee (default 10)")
    parser.add_argument("--half-spread-bps", type=float, default=0.0)
    parser.add_argument("--slippage-bps", type=float, default=0.0)
    parser.add_argument(
        "--fill", default="next_open", choices=("next_open", "next_close", "same_close")
    )
    parser.add_argument("--stop-loss", type=float, help="distance, a fraction of the entry price")
    parser.add_argument("--take-profit", type=float, help="distance, a fraction of the entry price")
    parser.add_argument("--capital", type=float, default=10_000.0, help="equity at the start")
    parser.add_argument("--warmup", type=int, default=50, help="bars not traded (default 50)")
    parser.add_argument("--show-trades", action="store_true", help="print the last trades")
    parser.add_argument("--out", metavar="FOLDER", help="new folder for all results")
    return parser.parse_args(words)


def read_axes(words: list[str]) -> dict[str, np.ndarray]:
    """Reads axes from words `name=start:stop:num` or `name=value`.

    Args:
      words: one for each axis.

    Returns:
      Name -> [n] values.

    Raises:
      ValueError: if a word is neither, or num is below 1.
    """
    axes = {}
    for word in words:
        name, _, values = word.partition("=")
        try:
            numbers = [float(value) for value in values.split(":")]
            start, stop, num = numbers if len(numbers) != 1 else (*numbers, *numbers, 1)
            if num < 1:
                raise ValueError
        except ValueError:
            raise ValueError(
                f"--grid is {word!r}; accepted are NAME=START:STOP:NUM with NUM >= 1, NAME=VALUE"
            ) from None
        axes[name] = np.linspace(start, stop, int(num))
    return axes


def read_market(options: argparse.Namespace) -> tuple[pd.DataFrame, rules.Signals]:
    """Reads bars and what rules know at their closes.

    Args:
      options: of the command line.

    Returns:
      [T] bars, and `Signals` of [T] arrays.

    Raises:
      ValueError: if there are no bars, or they lack times of the signals.
    """
    frame = None if options.signals is None else pd.read_parquet(options.signals)
    if options.bars:
        bars = market.read_bars(options.bars)
    elif options.dataset or frame is None:
        bars = market.load_dataset(options.dataset or "nasdaq")
    elif {"open", "high", "low", "close"} <= set(frame):
        bars = frame
    else:
        raise ValueError("--signals holds no bars; accepted is a file that does, or --bars beside")
    if frame is None:
        return bars, plain_signals(bars)
    missing = frame.index.difference(bars.index)
    if len(missing):
        raise ValueError(
            f"--signals has {len(missing)} times without a bar, the first {missing[0]}; accepted "
            "are times of the bars"
        )
    bars = bars.loc[frame.index]
    return bars, given_signals(frame, plain_signals(bars))


def plain_signals(bars: pd.DataFrame) -> rules.Signals:
    """Returns what the returns up to each close tell at it, [T] arrays of float64.

    Before `MIN_HISTORY` returns nothing is expected, and the risk is `QUIET_STD`.
    """
    returns = market.simple_returns(bars).fillna(0.0)
    moments = returns.ewm(alpha=1.0 - DECAY)
    floor = (returns.expanding().std() * (1.0 - DECAY)).clip(lower=STD_FLOOR)
    is_known = np.arange(len(bars)) >= MIN_HISTORY
    std = moments.std().clip(lower=floor).where(is_known, QUIET_STD)
    mean = moments.mean().where(is_known, 0.0)
    tail = 1.0 - CONFIDENCE
    return rules.Signals(
        expected_z=(mean / std).to_numpy(np.float64),
        density_p_value=np.ones(len(bars)),
        expected_shortfall=std.to_numpy() * stats.norm.pdf(stats.norm.ppf(tail)) / tail,
        return_std=std.to_numpy(np.float64),
        last_return=returns.to_numpy(np.float64),
    )


def given_signals(frame: pd.DataFrame, plain: rules.Signals) -> rules.Signals:
    """Takes the columns of a frame that rules read, and the plain ones for those it lacks."""
    names = {"density_p_value": "p_value"}
    found = {
        field: frame[column].to_numpy(np.float64)
        for field in rules.Signals._fields
        for column in (field, names.get(field))
        if column in frame
    }
    return plain._replace(**found)


def main(words: list[str] | None = None) -> int:
    """Runs the grid and prints or writes what came out.

    Args:
      words: arguments of the command line; those of the process where None.

    Returns:
      The exit status: 0, or 2 with one line on what was refused.
    """
    options = parse(sys.argv[1:] if words is None else words)
    try:
        _run(options)
    except (ValueError, OSError) as error:
        print("error:", " ".join(str(error).split()), file=sys.stderr)
        return REFUSED
    return 0


def _run(options: argparse.Namespace) -> None:
    """Runs the grid, replays the best rule, sets it beside the baselines and the luck."""
    out = pathlib.Path(options.out) if options.out else None
    if out is not None and out.exists():
        raise ValueError(f"--out {out} exists; accepted is a new folder")
    bars, signals = read_market(options)
    prices = backtest.Prices(*(bars[n].to_numpy(float) for n in ("open", "high", "low", "close")))
    stops = backtest.Stops(stop_loss=options.stop_loss, take_profit=options.take_profit)
    shared = {
        "costs": backtest.Costs(options.fee_bps, options.half_spread_bps, options.slippage_bps),
        "fill": options.fill,
        "warmup": options.warmup,
    }
    year = market.periods_per_year(bars.index)
    rule, params_type, axes, state = RULES[options.rule]
    grid = backtest.run_grid(
        rule,
        backtest.product_grid(params_type, **{**axes, **read_axes(options.grid)}),
        signals,
        prices,
        periods_per_year=year,
        stops=stops,
        init_state=state,
        metrics="full",
        **shared,
    )
    best = backtest.replay(
        grid,
        grid.best().index,
        rule,
        signals,
        prices,
        stops=stops,
        init_state=state,
        labels=bars.index,
        initial_capital=options.capital,
        **shared,
    )
    rows = {"best rule": _numbers(best.trial.metrics)}
    for name, (other, params) in BASELINES.items():
        rule, params_type, axes, state = RULES[other]
        one = backtest.run_grid(
            rule,
            backtest.product_grid(params_type, **params),
            signals,
            prices,
            periods_per_year=year,
            init_state=state,
            metrics="full",
            **shared,
        )
        rows[name] = _numbers(one.trial(0).metrics)
    luck = luck_of(grid, best, year)
    table = pd.DataFrame(rows).T
    print(table[list(COLUMNS)].map(lambda value: f"{value:.4g}").to_string())
    print(f"\nbest parameters: {_numbers(best.trial.params)}")
    print(luck_line(luck))
    if options.show_trades:
        print(f"\nthe last {SHOWN} of {len(best.trades)} trades of the best rule:")
        print(best.trades.tail(SHOWN).to_string(index=False))
    if out is not None:
        write(out, options, bars, grid, best, {"rules": rows, "luck": luck})
        print(f"\nwritten: {out}")


def luck_of(grid: backtest.GridResult, best: backtest.Replay, year: float) -> dict[str, float]:
    """Returns what the number of trials makes of the best Sharpe ratio.

    Args:
      grid: the grid.
      best: its best rule.
      year: bars in a year.

    Returns:
      Number of trials, the annual Sharpe ratio that the best of as many without skill would show,
      that of the best rule, and its deflated Sharpe ratio, a probability.
    """
    variance = 0.0 if np.isnan(grid.sharpe_variance) else grid.sharpe_variance
    expected = inference.expected_max_sharpe(grid.num_trials, variance**0.5)
    returns = np.asarray(best.result.returns, np.float64)
    return {
        "num_trials": grid.num_trials,
        "expected_max_sharpe": expected * year**0.5,
        "sharpe_ratio": metrics.sharpe_ratio(returns, periods_per_year=year),
        "deflated_sharpe_ratio": inference.deflated_sharpe_ratio(
            returns, num_trials=grid.num_trials, sharpe_variance=variance
        ),
    }


def luck_line(luck: dict[str, float]) -> str:
    """Writes the luck in one line."""
    return (
        f"luck: {luck['num_trials']} rules tried; without skill the best of them would show a "
        f"Sharpe ratio of {luck['expected_max_sharpe']:.2f}, this one has "
        f"{luck['sharpe_ratio']:.2f}; deflated Sharpe ratio {luck['deflated_sharpe_ratio']:.3f}"
    )


def write(
    out: pathlib.Path,
    options: argparse.Namespace,
    bars: pd.DataFrame,
    grid: backtest.GridResult,
    best: backtest.Replay,
    found: dict[str, Any],
) -> None:
    """Writes all results under a temporary name and renames them; a killed run leaves no folder.

    Args:
      out: the new folder.
      options: of the command line.
      bars: [T] bars.
      grid: the grid.
      best: the replay of its best rule.
      found: figures of rules and luck.
    """
    temporary = out.with_name(f".{out.name}.{os.getpid()}")
    temporary.mkdir(parents=True)
    try:
        grid.to_frame().to_parquet(temporary / "grid.parquet")
        best.trades.to_parquet(temporary / "trades.parquet")
        path = {name: getattr(best.result, name) for name in ("returns", "weights", "turnover")}
        equity = pd.DataFrame(
            {"equity": options.capital * best.result.equity, "target": best.weights, **path},
            index=bars.index,
        )
        equity.to_parquet(temporary / "equity.parquet")
        _write_json(temporary / "metrics.json", found)
        versions = {"densityjax": __version__, "jax": jax.__version__, "numpy": np.__version__}
        _write_json(
            temporary / "config.json",
            {**vars(options), "best": _numbers(best.trial.params), "versions": versions},
        )
        temporary.rename(out)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _write_json(path: pathlib.Path, tree: Any) -> None:
    """Writes JSON without NaN: null stands for it, and `undefined` lists where and why."""
    undefined = []

    def spell(value: Any, name: str) -> Any:
        if isinstance(value, dict):
            return {key: spell(each, f"{name}.{key}".lstrip(".")) for key, each in value.items()}
        if isinstance(value, float) and not np.isfinite(value):
            undefined.append(f"{name}: {'infinite' if np.isinf(value) else 'not defined'}")
            return None
        return value

    content = spell(tree, "")
    path.write_text(json.dumps({**content, "undefined": undefined}, indent=2, allow_nan=False))


def _numbers(fields: Any) -> dict[str, Any]:
    """Returns a NamedTuple of scalars as Python numbers by name."""
    return {name: np.asarray(value).item() for name, value in fields._asdict().items()}


if __name__ == "__main__":
    sys.exit(main())
