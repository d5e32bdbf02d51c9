"""Shared fixtures; the compilation cache is on before jax is imported."""

import os
import pathlib

os.environ.setdefault("MPLBACKEND", "Agg")
os.environ.setdefault(
    "JAX_COMPILATION_CACHE_DIR",
    str(pathlib.Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "densityjax"),
)
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ.setdefault("JAX_PERSISTENT_CACHE_ENABLE_XLA_CACHES", "none")

import chex
import jax
import pytest

SHARED_BARS = pathlib.Path(__file__).resolve().parents[2] / "shared" / "data" / "bars"


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
