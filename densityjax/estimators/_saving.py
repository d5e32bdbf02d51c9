"""Folders of fitted estimators: one JSON of settings, one checkpoint of arrays."""

import json
import os
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from densityjax import __version__
from densityjax.estimators import _fitting
from densityjax.models import (
    DualScore,
    Flow,
    FlowConfig,
    Score,
    ScoreConfig,
    dual_score_from_config,
    flow_from_config,
    score_from_config,
)
from densityjax.training import checkpoint

SETTINGS = "estimator.json"
ARRAYS = "arrays"


def save(
    path: str | os.PathLike,
    *,
    kind: str,
    constructor: dict[str, Any],
    model: Flow | Score | DualScore,
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
      model: its flow or score model.
      params: the model's parameters, each leaf with a leading axis of members.
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
        "flow" if isinstance(model, Flow) else "score": json.loads(model.config.to_json()),
        "num_members": jax.tree.leaves(params)[0].shape[0],
        "fitted": fitted,
        "arrays": shapes,
    }
    text = json.dumps(settings, indent=2, sort_keys=True, allow_nan=False)
    with checkpoint.replacing(path) as staging:
        checkpoint.save(staging / ARRAYS, {"params": params, "arrays": arrays})
        (staging / SETTINGS).write_text(text)


def load(path: str | os.PathLike, *, kind: str) -> tuple[dict[str, Any], Any, Any, dict]:
    """Reads what `save` wrote.

    Args:
      path: the folder.
      kind: name of the class that is asked for.

    Returns:
      The settings, the model, its parameters, and the further arrays.

    Raises:
      ValueError: if the folder holds no such estimator, or another kind.
    """
    folder = checkpoint.present(path)
    if folder is None or not (folder / SETTINGS).is_file():
        raise ValueError(f"path is {str(path)!r}: accepted is a folder that {kind}.save wrote")
    settings = json.loads((folder / SETTINGS).read_text())
    if settings["kind"] != kind:
        raise ValueError(f"path is {str(path)!r}: it holds a {settings['kind']}, not a {kind}")
    model = _rebuilt(settings)
    like = {
        "params": _params_like(model, settings["num_members"]),
        "arrays": {
            name: jax.ShapeDtypeStruct(tuple(shape), np.dtype(dtype))
            for name, (shape, dtype) in settings["arrays"].items()
        },
    }
    stored = checkpoint.load(folder / ARRAYS, like)
    return settings, model, stored["params"], stored["arrays"]


def _rebuilt(settings: dict[str, Any]) -> Flow | Score | DualScore:
    """Builds the model that the settings describe, without its parameters."""
    if "flow" in settings:
        return flow_from_config(FlowConfig(**settings["flow"]))
    config = ScoreConfig(**settings["score"])
    is_dual = config.parametrisation == "dual"
    return dual_score_from_config(config) if is_dual else score_from_config(config)


def _params_like(model: Flow | Score | DualScore, num_members: int) -> Any:
    """Shapes of the parameters of an ensemble, without computing any."""
    rows = [jnp.zeros((2, model.config.dim))]
    if model.config.context_dim:
        rows.append(jnp.zeros((2, model.config.context_dim)))
    keys = jax.random.split(jax.random.key(0), num_members)
    return jax.eval_shape(_fitting.init_members(model), keys, jnp.zeros((num_members, 2)), *rows)
