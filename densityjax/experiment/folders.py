"""A new folder that appears whole or not at all."""

import contextlib
import json
import os
import pathlib
import shutil
import tempfile
from collections.abc import Iterator
from typing import Any


def check_new(folder: pathlib.Path) -> None:
    """Raises FileExistsError if something stands where the folder is to be."""
    if os.path.lexists(folder):
        raise FileExistsError(f"out is {str(folder)!r}, which exists: accepted is a new folder")


@contextlib.contextmanager
def new_folder(folder: pathlib.Path) -> Iterator[pathlib.Path]:
    """Hands out a temporary folder, which takes its name when the block is through.

    The temporary folder lies beside the place of the new one, so that renaming is one step. If
    the block is left by any exception, Ctrl-C too, it is deleted, and so are the parents that
    were made for it.

    Args:
      folder: path of the new folder.

    Yields:
      Path of the temporary folder, to write into.

    Raises:
      FileExistsError: if `folder` exists.
      ValueError: if its parent cannot be made or written to.
    """
    check_new(folder)
    parents = [parent for parent in folder.parents if not os.path.lexists(parent)]
    staging = None
    try:
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            staging = pathlib.Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
        except OSError as error:
            is_file = folder.parent.exists() and not folder.parent.is_dir()
            reason = "its parent is a file" if is_file else error.strerror or error
            raise ValueError(f"out is {str(folder)!r}, which cannot be made: {reason}") from error
        yield staging
        staging.chmod(0o755)  # mkdtemp's folders are for their owner alone
        check_new(folder)
        os.replace(staging, folder)
    except BaseException:
        if staging is not None:
            shutil.rmtree(staging, ignore_errors=True)
        with contextlib.suppress(OSError):  # another run may have moved in meanwhile
            for parent in parents:
                parent.rmdir()
        raise


def write_json(path: pathlib.Path, content: dict[str, Any]) -> None:
    """Writes a JSON object; NaN and infinities, which JSON does not hold, raise ValueError."""
    path.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", encoding="utf-8")
