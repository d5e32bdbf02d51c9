"""Saving and loading pytrees with orbax: a folder appears whole or not at all."""

import contextlib
import glob
import hashlib
import os
import pathlib
import shutil
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import numpy as np


def _named_leaves(tree: Any) -> dict[str, Any]:
    """Names the leaves of a pytree by their order."""
    return {f"leaf_{index:04d}": leaf for index, leaf in enumerate(jax.tree.leaves(tree))}


def _aside(path: pathlib.Path) -> pathlib.Path:
    """Where the previous folder waits while the new one takes its place."""
    return path.with_name(path.name + ".previous")


def _discard(staging: pathlib.Path) -> None:
    """Deletes an unfinished folder, and what orbax began beside it."""
    for name in glob.glob(f"{glob.escape(str(staging))}*"):
        shutil.rmtree(name, ignore_errors=True)


def present(path: str | os.PathLike) -> pathlib.Path | None:
    """Returns the folder to read `path` from, or None.

    Args:
      path: a folder that `replacing` wrote, or one that is not there or empty.

    Returns:
      The folder itself; or the previous one, where a kill came between two renames; or None.
    """
    path = pathlib.Path(path).resolve()
    filled = (each for each in (path, _aside(path)) if each.is_dir() and any(each.iterdir()))
    return next(filled, None)


def check_replaceable(path: str | os.PathLike, names: Sequence[str], what: str) -> None:
    """Refuses a folder whose replacement would delete what is not ours.

    Args:
      path: the folder to write or replace.
      names: entries that may be replaced.
      what: what those entries are, in words.

    Raises:
      ValueError: if `path` is a file, or a folder that holds anything else.
    """
    path = pathlib.Path(path)
    if not path.exists():
        return
    held = sorted(entry.name for entry in path.iterdir()) if path.is_dir() else ["a file"]
    if set(held) - set(names):
        raise ValueError(
            f"path is {str(path)!r}, which is or holds {held[:5]}: accepted is a folder that is "
            f"new, empty, or holds {what} alone"
        )


@contextlib.contextmanager
def replacing(path: str | os.PathLike) -> Iterator[pathlib.Path]:
    """Hands out a path beside `path`, at which to make what takes its place at the end.

    The folder at `path` is whole at any time, the old one or the new one; only a kill between two
    renames leaves the old one under a name of its own, from which `present` knows it. If the block
    is left by an exception, Ctrl-C too, the new folder is deleted and the old one stays.

    Args:
      path: the folder to write or replace; its parents are made.

    Yields:
      The path to write at; nothing is there.
    """
    path = pathlib.Path(path).resolve()  # of a link, the folder that it points to
    path.parent.mkdir(parents=True, exist_ok=True)
    staging, aside = path.with_name(path.name + ".writing"), _aside(path)
    _discard(staging)
    try:
        yield staging
        if path.exists():
            shutil.rmtree(aside, ignore_errors=True)
            os.replace(path, aside)
        os.replace(staging, path)
    except BaseException:
        _discard(staging)
        if aside.exists() and not path.exists():
            os.replace(aside, path)
        raise
    shutil.rmtree(aside, ignore_errors=True)


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
    return present(path) is not None


def save(path: str | os.PathLike, tree: Any) -> None:
    """Writes a pytree of arrays to the folder `path`, replacing what was there.

    Args:
      path: folder to write; it is complete when this returns, and untouched before.
      tree: pytree of arrays; its structure is not stored, `load` is told it.
    """
    import orbax.checkpoint as ocp

    with replacing(path) as staging, ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(staging, jax.tree.map(np.asarray, _named_leaves(tree)))
        checkpointer.wait_until_finished()


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

    folder = present(path)
    if folder is None:
        raise ValueError(f"path is {str(path)!r}: accepted is a folder written by save")
    expected = _named_leaves(like)
    try:
        with ocp.StandardCheckpointer() as checkpointer:
            stored = checkpointer.restore(folder)
    except (OSError, ValueError, KeyError) as error:  # orbax: a file is missing or broken
        reason = str(error).partition("\n")[0][:200]
        raise ValueError(
            f"path is {str(path)!r}, which cannot be read: {reason}; accepted is a folder that "
            "save wrote"
        ) from error
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
