"""Saving and loading pytrees with orbax: a folder appears whole or not at all."""

import hashlib
import os
import pathlib
import shutil
from typing import Any

import jax
import numpy as np


def _named_leaves(tree: Any) -> dict[str, Any]:
    """Names the leaves of a pytree by their order."""
    return {f"leaf_{index:04d}": leaf for index, leaf in enumerate(jax.tree.leaves(tree))}


def _aside(path: pathlib.Path) -> pathlib.Path:
    """Where the previous checkpoint waits while the new one takes its place."""
    return path.with_name(path.name + ".previous")


def fingerprint(label: str, arrays: Any) -> np.ndarray:
    """Returns 32 bytes, [32] uint8, that tell one fit's settings and arrays from another's.

    Args:
      label: settings in words.
      arrays: pytree of arrays.

    Returns:
      The SHA-256 digest of both.
    """
    digest = hashlib.sha256(label.encode())
    for leaf in jax.tree.leaves(arrays):
        digest.update(np.ascontiguousarray(leaf).tobytes())
    return np.frombuffer(digest.digest(), np.uint8)


def exists(path: str | os.PathLike) -> bool:
    """Returns whether `load` would find a checkpoint at `path`."""
    path = pathlib.Path(path).absolute()
    return path.is_dir() or _aside(path).is_dir()


def save(path: str | os.PathLike, tree: Any) -> None:
    """Writes a pytree of arrays to the folder `path`, replacing what was there.

    Args:
      path: folder to write; it is complete when this returns, and untouched before.
      tree: pytree of arrays; its structure is not stored, `load` is told it.
    """
    import orbax.checkpoint as ocp

    path = pathlib.Path(path).absolute()
    path.parent.mkdir(parents=True, exist_ok=True)
    staging = path.with_name(path.name + ".writing")
    shutil.rmtree(staging, ignore_errors=True)
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(staging, jax.tree.map(np.asarray, _named_leaves(tree)))
    if path.exists():
        shutil.rmtree(_aside(path), ignore_errors=True)
        os.replace(path, _aside(path))
    os.replace(staging, path)
    shutil.rmtree(_aside(path), ignore_errors=True)


def load(path: str | os.PathLike, like: Any) -> Any:
    """Reads a pytree written by `save`.

    Args:
      path: the folder.
      like: pytree of the same structure, shapes and dtypes; arrays or `jax.ShapeDtypeStruct`s.

    Returns:
      The stored pytree, leaves as NumPy arrays.

    Raises:
      ValueError: if there is no checkpoint at `path`, or its arrays do not fit `like`.
    """
    import orbax.checkpoint as ocp

    path = pathlib.Path(path).absolute()
    if not exists(path):
        raise ValueError(f"path is {str(path)!r}: accepted is a folder written by save")
    expected = _named_leaves(like)
    with ocp.StandardCheckpointer() as checkpointer:
        stored = checkpointer.restore(path if path.is_dir() else _aside(path))
    shapes = {name: (leaf.shape, leaf.dtype) for name, leaf in expected.items()}
    found = {name: (leaf.shape, leaf.dtype) for name, leaf in stored.items()}
    if shapes != found:
        wrong = sorted(name for name in shapes | found if shapes.get(name) != found.get(name))
        raise ValueError(
            f"path is {str(path)!r}: {len(wrong)} of its {len(found)} arrays do not fit the model "
            f"that is loading them, the first {wrong[0]}: stored {found.get(wrong[0])}, "
            f"accepted {shapes.get(wrong[0])}"
        )
    leaves = [np.asarray(stored[name]) for name in sorted(expected)]
    return jax.tree.unflatten(jax.tree.structure(like), leaves)
