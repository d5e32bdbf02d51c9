"""Where a grid runs: devices, processes, the size of a chunk, and how its program is compiled.

The configurations are split over the local devices, the market is the same on each, and nothing is
exchanged between them. Of several processes each takes every P-th chunk.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from densityjax._typing import NumpyArray
from densityjax.backtest.grid_chunks import Configs, Market, Options, Path, run_chunk
from densityjax.backtest.rules import Rule

AXIS = "configs"
CPU_BYTES = 2 << 20  # per device: twice a usual second cache; block sums are touched rarely
ACCELERATOR_BYTES = 1 << 30  # per device: 2^20 configurations and more, launches cost nothing
LEAST_CHUNK = 64  # configurations: fewer do not fill the vectors of a core
ACCELERATOR_UNROLL = 4  # bars per round of the loop, whose rounds the host launches


def local_mesh() -> Mesh:
    """Returns the devices of this process as a mesh of one axis."""
    return Mesh(np.asarray(jax.local_devices()), (AXIS,))


def default_unroll() -> int:
    """Returns the bars in one round of the compiled loop: on a CPU more of them are slower."""
    return 1 if jax.default_backend() == "cpu" else ACCELERATOR_UNROLL


def chunk_rows(
    rule: Rule,
    configs: Configs,
    market: Market,
    options: Options,
    *,
    memory_limit_bytes: float | None,
    num_trials: int,
    num_devices: int,
) -> int:
    """Returns how many configurations fit into the budget, over all devices together.

    Args:
      rule: the rule.
      configs: `Configs` of all rows.
      market: `Market`.
      options: `Options`.
      memory_limit_bytes: bytes of parameters, state and sums of one chunk, the market left out;
        None takes what suits the devices.
      num_trials: configurations in all; a chunk is no longer than the power of two above.
      num_devices: devices that share a chunk.

    Returns:
      Rows of one chunk, a multiple of the devices.

    Raises:
      ValueError: if not even the smallest chunk fits.
    """
    per_device = CPU_BYTES if jax.default_backend() == "cpu" else ACCELERATOR_BYTES
    budget = per_device * num_devices if memory_limit_bytes is None else memory_limit_bytes
    each = bytes_per_config(rule, configs, market, options)
    unit = LEAST_CHUNK * num_devices
    if not budget >= unit * each:
        raise ValueError(
            f"memory_limit_bytes is {memory_limit_bytes}; accepted are {unit * each} and more, for "
            f"{unit} configurations of {each} bytes"
        )
    fitting = int(budget // (unit * each)) * unit
    # Few sizes, so that grids of other lengths run the same program.
    enough = unit * (1 << max(-(-num_trials // unit) - 1, 0).bit_length())
    return min(fitting, enough)


def bytes_per_config(rule: Rule, configs: Configs, market: Market, options: Options) -> int:
    """Returns the bytes that one configuration takes: parameters, results, state and sums."""
    two = take_rows(configs, np.arange(2) % num_rows(configs))
    path = _sized.eval_shape(rule, two, market, options)
    size = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves((two, path)))
    # Totals and marks once more for the scans' carry, and the temporaries of one bar.
    carried = jax.tree.leaves((path.totals, path.marks))
    return size // 2 + 2 * sum(leaf.dtype.itemsize for leaf in carried)


# Traced once per rule, options and shapes, never compiled: it tells sizes alone.
_sized = jax.jit(run_chunk, static_argnames=("rule", "options"))


def num_rows(configs: Configs) -> int:
    """Returns the number of rows of the parameters."""
    return np.shape(jax.tree.leaves(configs.params)[0])[0]


def take_rows(configs: Configs, rows: NumpyArray) -> Configs:
    """Returns the given rows of the [N] leaves; scalars, and the initial state, stay whole."""
    params, terms, delays = jax.tree.map(
        lambda leaf: leaf[rows] if np.ndim(leaf) else leaf,
        (configs.params, configs.terms, configs.delays),
    )
    return Configs(params, terms, configs.init_state, delays)


@functools.lru_cache
def runner(mesh: Mesh) -> Callable[[Rule, Configs, Market, Options], Path]:
    """Returns `run_chunk`, compiled once per rule, options and shapes, over a mesh of devices."""

    def run(rule: Rule, configs: Configs, market: Market, options: Options) -> Path:
        call = functools.partial(run_chunk, rule, options=options)
        if mesh.size == 1:
            return call(configs, market)
        specs = _specs(configs), jax.tree.map(lambda leaf: PartitionSpec(), market)
        shape = jax.eval_shape(call, configs, market)
        last = jax.tree.map(lambda leaf: PartitionSpec(*[None] * (leaf.ndim - 1), AXIS), shape)
        # Nothing is exchanged, so that there is nothing to check about what varies over devices.
        mapped = jax.shard_map(call, mesh=mesh, in_specs=specs, out_specs=last, check_vma=False)
        return mapped(configs, market)

    options = compiler_options(jax.default_backend())
    return jax.jit(run, static_argnames=("rule", "options"), compiler_options=options)


def place(mesh: Mesh, configs: Configs, market: Market) -> tuple[Configs, Market]:
    """Puts a chunk and the market where the program reads them.

    Args:
      mesh: the devices.
      configs: `Configs`, whose [N] leaves are split over the devices.
      market: `Market`, copied to each; already placed arrays stay where they are.

    Returns:
      The same on the devices.
    """
    if mesh.size == 1:
        return configs, jax.device_put(market, mesh.devices.flat[0])
    specs = _specs(configs)
    configs = jax.tree.map(
        lambda leaf, spec: jax.device_put(leaf, NamedSharding(mesh, spec)), configs, specs
    )
    return configs, jax.device_put(market, NamedSharding(mesh, PartitionSpec()))


def _specs(configs: Configs) -> Any:
    """Returns which leaves are split: those with a row for each configuration."""
    split = jax.tree.map(
        lambda leaf: PartitionSpec(AXIS) if leaf.ndim else PartitionSpec(),
        (
            configs.params,
            configs.terms,
            configs.delays,
        ),
    )
    whole = jax.tree.map(lambda leaf: PartitionSpec(), configs.init_state)
    return Configs(split[0], split[1], whole, split[2])


@functools.lru_cache
def compiler_options(backend: str) -> dict[str, Any] | None:
    """Returns options for the compiler of a backend; none where it does not know them.

    XLA for the CPU copies about a third of the carried vectors in every bar, unless it looks at
    where in the loop they are read: the results are the same, a fifth faster.
    """
    if backend != "cpu":
        return None
    options = {"xla_cpu_copy_insertion_use_region_analysis": True}
    try:
        jax.jit(lambda x: x, compiler_options=options).lower(0.0).compile()
    except Exception:  # of a kind that changed between versions: the option is unknown there
        return None
    return options


def gather(chunks: dict[int, Path], num_chunks: int) -> dict[int, Path]:
    """Collects the chunks of all processes, in every one of them.

    Args:
      chunks: number of a chunk -> its `Path` of host arrays; those of this process.
      num_chunks: chunks of all processes, of one shape.

    Returns:
      All of them.
    """
    num_processes = jax.process_count()
    if num_processes == 1:
        return chunks
    some = next(iter(chunks.values()))
    missing = jax.tree.map(np.zeros_like, some)
    mine = range(jax.process_index(), jax.process_index() + num_chunks, num_processes)
    mine = [chunks.get(chunk, missing) for chunk in mine][: -(-num_chunks // num_processes)]
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *mine)
    every = multihost_utils.process_allgather(stacked, tiled=False)
    return {
        chunk: jax.tree.map(
            lambda leaf, c=chunk: np.asarray(leaf[c % num_processes, c // num_processes]), every
        )
        for chunk in range(num_chunks)
    }
