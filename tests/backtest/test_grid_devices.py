"""Grids over several devices and processes, and the sizes of their chunks."""

import os
import pathlib
import socket
import subprocess
import sys
import textwrap

import numpy as np
import pytest

from densityjax import backtest
from densityjax.backtest import Costs, Prices, Signals, Stops, ThresholdParams

NUM_BARS, NUM_TRIALS = 150, 100
COMMON = """
    import sys
    sys.path.insert(0, sys.argv[1])
    import jax
    import numpy as np
    import test_grid_devices as case
"""
DEVICES = """
    jax.config.update("jax_num_cpu_devices", 2)
    assert len(jax.local_devices()) == 2
    case.save(sys.argv[2], case.run())
"""
PROCESSES = """
    number, port = int(sys.argv[3]), sys.argv[4]
    jax.distributed.initialize(f"127.0.0.1:{port}", 2, number, initialization_timeout=30)
    told = []
    result = case.run(chunk_size=32, progress=lambda done, whole: told.append(done))
    assert told == [[32, 96], [64, 100]][number], told
    case.save(f"{sys.argv[2]}.{number}", result)
"""


def run(**options):
    rng = np.random.default_rng(0)
    close = 100.0 * np.exp(np.cumsum(0.01 * rng.standard_normal(NUM_BARS)))
    open_ = np.append(100.0, close[:-1])
    ends = np.stack([open_, close])
    signals = Signals(
        expected_z=rng.standard_normal(NUM_BARS),
        density_p_value=rng.uniform(size=NUM_BARS),
        expected_shortfall=rng.uniform(0.01, 0.05, NUM_BARS),
    )
    return backtest.run_grid(
        backtest.threshold_rule,
        ThresholdParams(entry_z=np.linspace(0.0, 1.5, NUM_TRIALS)),
        signals,
        Prices(open_, ends.max(0) * 1.003, ends.min(0) / 1.003, close),
        costs=Costs(fee_bps=np.linspace(0.0, 20.0, NUM_TRIALS)),
        stops=Stops(stop_loss=0.02),
        metrics="full",
        **options,
    )


def save(path, result):
    np.savez(path, **result.metrics._asdict(), blocks=result.block_returns)


def assert_saved(path, expected, **tolerance):
    with np.load(path) as file:
        for name, values in expected.metrics._asdict().items():
            np.testing.assert_allclose(file[name], values, err_msg=name, **tolerance)
        np.testing.assert_allclose(file["blocks"], expected.block_returns, **tolerance)


def words(program, *arguments):
    text = textwrap.dedent(COMMON) + textwrap.dedent(program)
    return [sys.executable, "-c", text, str(pathlib.Path(__file__).parent), *map(str, arguments)]


@pytest.fixture(scope="module")
def expected():
    return run(chunk_size=32)


def test_two_devices_give_what_one_gives(expected, tmp_path):
    env = {**os.environ, "JAX_PLATFORMS": "cpu"}
    command = words(DEVICES, tmp_path / "two.npz")
    answer = subprocess.run(command, env=env, capture_output=True, text=True, timeout=100)
    assert answer.returncode == 0, answer.stderr
    assert_saved(tmp_path / "two.npz", expected, rtol=1e-4, atol=1e-6)


def free_port():
    try:
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            return listener.getsockname()[1]
    except OSError as error:
        pytest.skip(f"no port can be bound here: {error}")


def test_two_processes_share_the_chunks_and_both_have_all(expected, tmp_path):
    env, port = {**os.environ, "JAX_PLATFORMS": "cpu"}, free_port()
    workers = [
        subprocess.Popen(
            words(PROCESSES, tmp_path / "part", number, port),
            env=env,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(2)
    ]
    for worker in workers:
        try:
            _, errors = worker.communicate(timeout=100)
        finally:
            worker.kill()
        assert worker.returncode == 0, errors
    for number in range(2):
        assert_saved(tmp_path / f"part.{number}.npz", expected, rtol=0, atol=0)


def test_a_byte_budget_sets_the_chunk_and_one_that_is_too_small_says_so(expected):
    sizes = []
    result = run(memory_limit_bytes=80_000, progress=lambda done, whole: sizes.append(done))
    assert sizes == [64, 100]
    np.testing.assert_allclose(
        result.metrics.total_return, expected.metrics.total_return, rtol=1e-4, atol=1e-6
    )
    with pytest.raises(ValueError, match=r"memory_limit_bytes is 1000; accepted are \d+ and more"):
        run(memory_limit_bytes=1000)


def test_the_state_of_a_chunk_does_not_grow_with_the_bars(monkeypatch):
    shapes = []
    real = backtest.grid_devices.runner

    def watch(mesh):
        def compiled(*arguments):
            rule, configs, market, options = arguments
            lowered = real(mesh).lower(rule, configs, market, options)
            shapes.append(lowered.compile().memory_analysis().temp_size_in_bytes)
            return real(mesh)(*arguments)

        return compiled

    monkeypatch.setattr(backtest.grid_devices, "runner", watch)
    for num_bars in (200, 6_400):
        signals = Signals(last_return=np.zeros(num_bars))
        backtest.run_grid(
            backtest.buy_and_hold,
            backtest.ConstantParams(np.linspace(0.0, 1.0, 1024)),
            signals,
            Prices(close=np.ones(num_bars)),
            fill="same_close",
            chunk_size=1024,
        )
    # What is added may hold the market's columns, 6,200 numbers each: 1,024 rules' would be 25 MB.
    assert shapes[1] - shapes[0] < 20 * 6_200 * 4


def test_grids_of_other_lengths_run_the_same_program():
    traces = []

    def counted(params, signal_t, state):
        traces.append(1)
        return backtest.buy_and_hold(params, signal_t, state)

    def go(num_trials):
        before = len(traces)
        backtest.run_grid(
            counted,
            backtest.ConstantParams(np.linspace(0.0, 1.0, num_trials)),
            Signals(last_return=np.zeros(50)),
            Prices(close=np.linspace(1.0, 2.0, 50)),
            fill="same_close",
        )
        return len(traces) - before

    assert go(70) > 0
    assert go(71) == go(128) == 0
    assert go(129) > 0  # two chunks' worth, of another compiled shape
