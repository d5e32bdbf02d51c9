"""Folders of fitted estimators: one JSON of settings, one checkpoint of arrays."""

import json
import os
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from densityjax import __version__
from densityjax.estimators import _energy_functions, _fitting
from densityjax.models import (
    BoltzmannConfig,
    FlowConfig,
    JointEnergyConfig,
    ScoreConfig,
    dual_score_from_config,
    flow_from_config,
    gaussian_rbm_from_config,
    joint_energy_from_config,
    score_from_config,
)
from densityjax.training import checkpoint

SETTINGS = "estimator.json"
ARRAYS = "arrays"


def _score_family(config: ScoreConfig) -> Any:
    """Builds the score model or the dual energy that the config describes."""
    is_dual = config.parametrisation == "dual"
    return dual_score_from_config(config) if is_dual else score_from_config(config)


# name in the settings: type of the config, and what builds a model of it
FAMILIES: dict[str, tuple[Any, Callable[[Any], Any]]] = {
    "flow": (FlowConfig, flow_from_config),
    "energy": (
        _energy_functions.ProposedEnergyConfig,
        _energy_functions.proposed_energy_from_config,
    ),
    "score": (ScoreConfig, _score_family),
    "boltzmann": (BoltzmannConfig, gaussian_rbm_from_config),
    "joint_energy": (JointEnergyConfig, joint_energy_from_config),
}


def save(
    path: str | os.PathLike,
    *,
    kind: str,
    constructor: dict[str, Any],
    model: Any,
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
      model: its flow, score model or other model with a `config` of `FAMILIES`.
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
        _family(model): json.loads(model.config.to_json()),
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


def _family(model: Any) -> str:
    """Returns the name in `FAMILIES` of a model, by the type of its config."""
    return next(name for name, (kind, _) in FAMILIES.items() if isinstance(model.config, kind))


def _rebuilt(settings: dict[str, Any]) -> Any:
    """Builds the model that the settings describe, without its parameters."""
    name = next(name for name in FAMILIES if name in settings)
    config_type, build = FAMILIES[name]
    return build(config_type(**settings[name]))


def _params_like(model: Any, num_members: int) -> Any:
    """Shapes of the parameters of an ensemble, without computing any."""
    rows = [jnp.zeros((2, model.config.dim))]
    if model.config.context_dim:
        rows.append(jnp.zeros((2, model.config.context_dim)))
    keys = jax.random.split(jax.random.key(0), num_members)
    return jax.eval_shape(_fitting.init_members(model), keys, jnp.zeros((num_members, 2)), *rows)
