"""Shared fixtures; compilation is made cheap and its cache set before jax is imported.

Most of the suite is compilation, and programs that are not optimised compile three times as fast.
`DENSITYJAX_TESTS_OPTIMISED=1 pytest` tests the very programs that users run: do so before a
release.
"""

import gc
import importlib.metadata
import os
import pathlib

os.environ.setdefault("MPLBACKEND", "Agg")
os.environ.setdefault(
    "JAX_COMPILATION_CACHE_DIR",
    str(pathlib.Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "densityjax"),
)
if not os.environ.get("DENSITYJAX_TESTS_OPTIMISED"):
    flags = ["--xla_backend_optimization_level=0"]
    if (0, 7) <= tuple(map(int, importlib.metadata.version("jaxlib").split(".")[:2])) < (0, 11):
        # Known to these versions; XLA ends a process that names a flag it does not know.
        flags += ["--xla_cpu_use_fusion_emitters=false", "--xla_cpu_parallel_codegen_split_count=1"]
    os.environ["XLA_FLAGS"] = " ".join([*flags, os.environ.get("XLA_FLAGS", "")])
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ.setdefault("JAX_PERSISTENT_CACHE_ENABLE_XLA_CACHES", "none")

import chex
import jax
import pytest

MOST_MAPS = 45_000  # two thirds of the limit: one module alone makes up to some thousand
SHARED_BARS = pathlib.Path(__file__).resolve().parents[2] / "shared" / "data" / "bars"


@pytest.fixture(scope="module", autouse=True)
def _drop_programs_before_memory_maps_run_out():
    """Compiled programs map memory, and a process that holds 65,530 maps on Linux crashes."""
    yield
    maps = pathlib.Path("/proc/self/maps")
    if maps.exists() and maps.read_bytes().count(b"\n") > MOST_MAPS:
        jax.clear_caches()
        gc.collect()


@pytest.fixture(autouse=True)
def _clear_chex_trace_counter():
    chex.clear_trace_counter()


@pytest.fixture(params=["jit", "no_jit"])
def variant(request):
    """Runs a test with the function under test compiled, and not."""
    return jax.jit if request.param == "jit" else lambda fn: fn


@pytest.fixture
def x64():
    """Runs a test in double precision."""
    with jax.enable_x64(True):
        yield


@pytest.fixture
def real_bars():
    """Folder of optional real bars; tests that read them skip where it is absent."""
    if not SHARED_BARS.is_dir():
        pytest.skip("optional real bars are not here")
    return SHARED_BARS
