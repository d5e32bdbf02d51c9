"""The seam between the package and its network library.

A `Network` is two pure functions over a plain pytree of parameters. Linen stays behind it: it is
flax's functional API, it is frozen but kept, and its parameters are plain dicts that `scan`,
`vmap` and checkpoints take as they are. Another library can enter by the same seam.
"""

from collections.abc import Callable
from typing import NamedTuple

from densityjax._typing import Array, Key, Params


class Network(NamedTuple):
    """A network with its parameters held outside; both functions are pure.

    Attributes:
      init: key -> params, a nested dict of arrays.
      apply: (params, x [num_inputs], context [num_context] or None, *, dropout_key=None) ->
        output [num_outputs], for ONE example; dropout acts only where a `dropout_key` is given.
    """

    init: Callable[[Key], Params]
    apply: Callable[..., Array]
