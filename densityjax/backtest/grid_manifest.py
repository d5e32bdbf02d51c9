"""The manifest of a grid: what has been computed already, so that a killed run goes on.

A folder holds `chunk-NUMBER.npz` for each finished chunk and, in `manifest.jsonl` (one file for
each process), one JSON line about it. Arrays are written under a temporary name and renamed, then
the line is added: a kill at any moment leaves a chunk either whole or not there.
"""

import hashlib
import io
import json
import os
import pathlib
from typing import Any

import jax
import numpy as np

from densityjax import __version__
from densityjax._typing import NumpyArray
from densityjax.backtest.grid_chunks import Path
from densityjax.backtest.grid_digest import digest_of, rule_digest

ARITHMETIC = (  # files whose change may change a figure
    "account columns engine grid_chunks grid_sums grid_trades inputs legs rules sizing stops"
)


class Manifest:
    """Finished chunks in a folder, for one grid that is told by its key."""

    def __init__(self, folder: str | os.PathLike, key: dict[str, Any]) -> None:
        """Reads what is there.

        Args:
          folder: where the chunks are; made where it is missing.
          key: name -> what the figures depend on, as JSON holds it; see `grid_key`.

        Raises:
          ValueError: if a line belongs to another grid; it names what differs.
        """
        self.folder, self.key = pathlib.Path(folder), key
        self.folder.mkdir(parents=True, exist_ok=True)
        number = jax.process_index()
        self._own = self.folder / ("manifest.jsonl" if not number else f"manifest-{number}.jsonl")
        self._lines = {line["index"]: line for line in self._read(self._own, mend=True)}
        for path in sorted(self.folder.glob("manifest*.jsonl")):
            if path != self._own:
                self._lines |= {line["index"]: line for line in self._read(path, mend=False)}

    def __contains__(self, index: int) -> bool:
        """Returns whether a chunk is finished."""
        return index in self._lines

    def load(self, index: int, like: Path) -> Path:
        """Reads a finished chunk.

        Args:
          index: number of the chunk.
          like: a `Path` of the same structure; its leaves are not read.

        Returns:
          The `Path` of host arrays.

        Raises:
          ValueError: if the file is not the one that the manifest speaks of.
        """
        path, line = self._file(index), self._lines[index]
        content = path.read_bytes() if path.exists() else b""
        if hashlib.sha256(content).hexdigest() != line["file_sha256"]:
            raise ValueError(
                f"{path} is missing or not what the manifest says; delete the folder to start anew"
            )
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            leaves = [file[f"leaf_{number}"] for number in range(len(file.files))]
        return jax.tree.unflatten(jax.tree.structure(like), leaves)

    def save(self, index: int, path: Path, *, rows: int) -> None:
        """Writes a chunk, then its line.

        Args:
          index: number of the chunk.
          path: its `Path` of host arrays.
          rows: configurations in it.
        """
        buffer = io.BytesIO()
        leaves = {f"leaf_{number}": leaf for number, leaf in enumerate(jax.tree.leaves(path))}
        np.savez(buffer, **leaves)  # pyright: ignore[reportArgumentType]
        _replace(self._file(index), buffer.getvalue())
        digest = hashlib.sha256(buffer.getvalue()).hexdigest()
        line = {"index": index, "rows": rows, "file_sha256": digest, "key": self.key}
        with self._own.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
            file.flush()
            os.fsync(file.fileno())
        self._lines[index] = line

    def _file(self, index: int) -> pathlib.Path:
        return self.folder / f"chunk-{index:06d}.npz"

    def _read(self, path: pathlib.Path, *, mend: bool) -> list[dict[str, Any]]:
        """Reads the whole lines of a manifest; a line that a kill cut off is taken away."""
        if not path.exists():
            return []
        text = path.read_text(encoding="utf-8")
        whole = text[: text.rfind("\n") + 1]
        if mend and whole != text:
            _replace(path, whole.encode())
        lines = [json.loads(line) for line in whole.splitlines()]
        for line in lines:
            names = sorted({*line["key"], *self.key})
            other = [name for name in names if line["key"].get(name) != self.key.get(name)]
            if other:
                raise ValueError(
                    f"manifest {path} is of another grid: {', '.join(other)} "
                    f"{'differs' if len(other) == 1 else 'differ'}; accepted are the same grid "
                    "and an empty folder"
                )
        return lines


def grid_key(
    rule: Any, configs: Any, market: Any, options: Any, *, rows: int, num_devices: int
) -> dict[str, Any]:
    """Returns what the figures of a grid depend on.

    Args:
      rule: the rule, known by its code and all that it reads.
      configs: `Configs` of all rows.
      market: `Market`.
      options: `Options`.
      rows: configurations in a chunk.
      num_devices: devices that share a chunk.

    Returns:
      Name -> hash or value, as JSON holds them.
    """
    return {
        "params": digest_of(configs),
        "data": digest_of(market),
        "rule": rule_digest(rule),
        "options": json.dumps(options._asdict()),
        "code": _code_digest(),
        "dtype": str(market.bar.gap.dtype),
        "backend": jax.default_backend(),
        "jax": jax.__version__,
        "chunk": [rows, num_devices],
    }


def _code_digest() -> str:
    """Returns the version, and a hash of the files that do the arithmetic."""
    folder, found = pathlib.Path(__file__).parent, hashlib.sha256()
    files = [folder / f"{name}.py" for name in ARITHMETIC.split()]
    for file in [*files, folder.parent / "numerics.py"]:
        found.update(file.read_bytes())
    return f"{__version__} {found.hexdigest()}"


def _replace(path: pathlib.Path, content: bytes) -> None:
    """Writes a file under a temporary name and renames it."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def joined(chunks: dict[int, Path], num_trials: int) -> Path:
    """Puts chunks side by side and drops the rows that only filled up the last one.

    Args:
      chunks: number of a chunk -> its `Path`, all of them.
      num_trials: N, the configurations that were asked for.

    Returns:
      A `Path` of [N] and [S, N] host arrays.
    """

    def join(*leaves: NumpyArray) -> NumpyArray:
        size = leaves[0].shape[-1]
        whole = np.empty((*leaves[0].shape[:-1], num_trials), leaves[0].dtype)
        for number, leaf in enumerate(leaves):
            first = number * size
            whole[..., first : first + size] = leaf[..., : num_trials - first]
        return whole

    return jax.tree.map(join, *(chunks[index] for index in range(len(chunks))))
