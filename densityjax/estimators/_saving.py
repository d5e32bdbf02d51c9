"""Folders of fitted estimators: one JSON of settings, one checkpoint of arrays."""

import json
import os
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from densityjax import __version__
from densityjax.estimators import _fitting
from densityjax.models import Flow, FlowConfig, flow_from_config
from densityjax.training import checkpoint

SETTINGS = "estimator.json"
ARRAYS = "arrays"


def save(
    path: str | os.PathLike,
    *,
    kind: str,
    constructor: dict[str, Any],
    flow: Flow,
    params: Any,
    fitted: dict[str, Any],
    arrays: dict[str, np.ndarray],
) -> None:
    """Writes a fitted estimator to a folder, which is complete when this returns.

    An estimator that was saved there before is replaced by it, and stays whole if this fails.

    Args:
      path: the folder: a new one, an empty one, or one that `save` wrote.
      kind: name of the estimator's class.
      constructor: its constructor's arguments.
      flow: its flow.
      params: the flow's parameters, each leaf with a leading axis of members.
      fitted: further fitted attributes that fit in JSON.
      arrays: further fitted arrays.

    Raises:
      ValueError: if something else is at `path`.
    """
    checkpoint.check_replaceable(path, (SETTINGS, ARRAYS), "a saved estimator")
    shapes = {name: [list(array.shape), str(array.dtype)] for name, array in arrays.items()}
    settings = {
        "kind": kind,
        "version": __version__,
        "constructor": constructor,
        "flow": json.loads(flow.config.to_json()),
        "num_members": jax.tree.leaves(params)[0].shape[0],
        "fitted": fitted,
        "arrays": shapes,
    }
    text = json.dumps(settings, indent=2, sort_keys=True, allow_nan=False)
    with checkpoint.replacing(path) as staging:
        checkpoint.save(staging / ARRAYS, {"params": params, "arrays": arrays})
        (staging / SETTINGS).write_text(text)


def load(path: str | os.PathLike, *, kind: str) -> tuple[dict[str, Any], Flow, Any, dict]:
    """Reads what `save` wrote.

    Args:
      path: the folder.
      kind: name of the class that is asked for.

    Returns:
      The settings, the flow, its parameters, and the further arrays.

    Raises:
      ValueError: if the folder holds no such estimator, or another kind.
    """
    folder = checkpoint.present(path)
    if folder is None or not (folder / SETTINGS).is_file():
        raise ValueError(f"path is {str(path)!r}: accepted is a folder that {kind}.save wrote")
    settings = json.loads((folder / SETTINGS).read_text())
    if settings["kind"] != kind:
        raise ValueError(f"path is {str(path)!r}: it holds a {settings['kind']}, not a {kind}")
    flow = flow_from_config(FlowConfig(**settings["flow"]))
    like = {
        "params": _params_like(flow, settings["num_members"]),
        "arrays": {
            name: jax.ShapeDtypeStruct(tuple(shape), np.dtype(dtype))
            for name, (shape, dtype) in settings["arrays"].items()
        },
    }
    stored = checkpoint.load(folder / ARRAYS, like)
    return settings, flow, stored["params"], stored["arrays"]


def _params_like(flow: Flow, num_members: int) -> Any:
    """Shapes of the parameters of an ensemble, without computing any."""
    rows = [jnp.zeros((2, flow.config.dim))]
    if flow.config.context_dim:
        rows.append(jnp.zeros((2, flow.config.context_dim)))
    keys = jax.random.split(jax.random.key(0), num_members)
    return jax.eval_shape(_fitting.init_members(flow), keys, jnp.zeros((num_members, 2)), *rows)
