"""Values that an exchange changed after they were stored: found, logged, and kept on record."""

import logging
from typing import Any, NamedTuple

import numpy as np

from densityjax._typing import NumpyArray
from densityjax.market.fetch_pages import Rows
from densityjax.market.store import Manifest, Stored

LOG = logging.getLogger(__name__)


class Revision(NamedTuple):
    """A value that the exchange changed after it was stored.

    Attributes:
      time_ms: open of its bar, ms since 1970.
      column: its name.
      old: as stored before.
      new: as it is now; None where the exchange no longer has the bar, which is kept.
    """

    time_ms: int
    column: str
    old: float
    new: float | None


def find_revisions(stored: Stored, fresh: Rows, asked: NumpyArray) -> list[Revision]:
    """Returns the stored values that a fresh reply contradicts, and says them to the log."""
    found = []
    for row in np.flatnonzero(np.isin(stored.rows.times, asked)):
        time, old = int(stored.rows.times[row]), stored.rows.values[row]
        place = int(np.searchsorted(fresh.times, time))
        if place == len(fresh.times) or fresh.times[place] != time:
            found.append(Revision(time, stored.manifest.columns[0], float(old[0]), None))
            continue
        new = fresh.values[place]
        found += [
            Revision(time, stored.manifest.columns[c], float(old[c]), float(new[c]))
            for c in np.flatnonzero(old != new)
        ]
    for revision in found:
        LOG.info("%s %s: %s", stored.manifest.symbol, stored.manifest.series, revision)
    return found


def record(manifest: Manifest, found: list[Revision]) -> Manifest:
    """Returns a manifest with revisions added to those it has."""
    new: list[dict[str, Any]] = [revision._asdict() for revision in found]
    known = [entry for entry in new if entry not in manifest.revisions]
    return manifest._replace(revisions=(*manifest.revisions, *known))
