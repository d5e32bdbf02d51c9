"""What a rule is, as a hash: its code and all that the code reads.

Two rules with one source differ where they bind other defaults, close over other values, belong to
other objects, or call helpers that have changed. All of that is read, through functions and classes
of this package and of the rule's own module; other packages count by name. What cannot be read is
refused, for a grid that goes on from figures of another rule would be wrong without a word.
"""

import enum
import functools
import hashlib
import types
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

PACKAGE = __name__.partition(".")[0]


def digest_of(tree: Any) -> str:
    """Returns a hash of all arrays of a tree, with their names, types and shapes."""
    found = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        array = np.ascontiguousarray(leaf)
        found.update(f"{jax.tree_util.keystr(path)} {array.dtype} {array.shape}".encode())
        found.update(array.tobytes())
    return found.hexdigest()


def rule_digest(rule: Any) -> str:
    """Returns the name of a rule and a hash of its code and of all that it reads.

    Args:
      rule: a function, a partial, a bound method or an object that can be called.

    Returns:
      Text that equal rules share.

    Raises:
      ValueError: if the rule reads something that has no such hash, naming it.
    """
    found = hashlib.sha256()
    home = getattr(rule, "__module__", None) or type(rule).__module__
    for part in _parts(rule, home, set()):
        found.update(part.encode() + b"\0")
    name = getattr(rule, "__qualname__", type(rule).__qualname__)
    return f"{home}.{name} {found.hexdigest()}"


def _parts(value: Any, home: str, seen: set[int]) -> Iterator[str]:
    """Yields texts that tell a value from another; `home` is the module of the rule."""
    inner = functools.partial(_parts, home=home, seen=seen)
    if isinstance(value, type(None) | bool | int | float | complex | str | bytes | enum.Enum):
        yield f"{type(value).__name__} {value!r}"
    elif isinstance(value, np.ndarray | np.generic | jax.Array):
        yield digest_of(value)
    elif isinstance(value, dict):
        for key, each in value.items():
            yield repr(key)
            yield from inner(each)
    elif isinstance(value, list | tuple | set | frozenset):
        yield f"{type(value).__qualname__} {len(value)}"
        for each in sorted(value, key=repr) if isinstance(value, set | frozenset) else value:
            yield from inner(each)
    elif isinstance(value, types.ModuleType):
        yield value.__name__
    elif isinstance(value, functools.partial):
        yield from inner((value.func, value.args, value.keywords))
    elif isinstance(value, types.MethodType):
        yield from inner((value.__func__, value.__self__))
    elif hasattr(value, "__wrapped__"):
        yield from inner(value.__wrapped__)
    elif isinstance(value, types.FunctionType | type):
        yield from _definition(value, home, seen)
    elif callable(value) and not hasattr(value, "__dict__"):
        yield f"{getattr(value, '__module__', '')}.{value!r}"
    elif hasattr(value, "__dict__"):
        yield from inner((type(value), vars(value)))
    else:
        raise ValueError(
            f"rule reads {value!r} of type {type(value).__qualname__}: accepted with a manifest "
            "are numbers, text, arrays, functions, and objects made of them"
        )


def _definition(value: Any, home: str, seen: set[int]) -> Iterator[str]:
    """Yields what tells a function or a class from another of the same name."""
    yield f"{value.__module__}.{value.__qualname__}"
    is_ours = value.__module__ == home or value.__module__.partition(".")[0] == PACKAGE
    if not is_ours or id(value) in seen:
        return
    seen.add(id(value))
    if isinstance(value, type):
        for name, each in sorted(vars(value).items()):
            if isinstance(each, types.FunctionType | staticmethod | classmethod | property):
                yield name
                yield from _parts(getattr(each, "fget", each), home, seen)
        return
    yield from _code(value.__code__)
    cells = [cell.cell_contents for cell in value.__closure__ or ()]
    yield from _parts((value.__defaults__, value.__kwdefaults__, cells), home, seen)
    for name in sorted(_names(value.__code__) & value.__globals__.keys()):
        yield name
        yield from _parts(value.__globals__[name], home, seen)


def _code(code: types.CodeType) -> Iterator[str]:
    """Yields instructions, names and constants; those of inner functions too."""
    yield f"{code.co_code!r} {code.co_names} {code.co_varnames}"
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _code(constant)
        else:
            yield repr(constant)


def _names(code: types.CodeType) -> set[str]:
    """Returns the names that a code and the codes inside it look up."""
    inner = (constant for constant in code.co_consts if isinstance(constant, types.CodeType))
    return set(code.co_names).union(*map(_names, inner))
