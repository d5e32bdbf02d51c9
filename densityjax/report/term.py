"""One entry of the glossary."""

from typing import NamedTuple


class Term(NamedTuple):
    """One entry of the glossary.

    Attributes:
      label: the name in words.
      kind: how the value is written: count, fraction, nats, ratio, p_value or number.
      sentence: what the number means, in one sentence without jargon where that can be.
    """

    label: str
    kind: str
    sentence: str
