"""Sums of a step for any share of its layers recomputed, out of those for none and for all.

Every sum of `step_time.tally` is linear in that share: what is run again counts as often as layers
are redone, and what is sent to the host as often as they are not.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crore.cost.arrays import Num, present
from crore.cost.constants import Constants
from crore.cost.step_time import Tally, data_messages

Rows = NDArray[np.intp]


@dataclass(frozen=True, kw_only=True, slots=True)
class Mixture:
    """Which sums are asked for; `[N]` each, rows into a tally with all offloaded."""

    none: Rows
    """With nothing recomputed."""
    whole: Rows
    """With all layers recomputed in the mode that is asked for."""
    share: Num
    """Of the layers, those that are."""
    states: Num
    """1 where optimizer states are in host memory."""
    activations: Num
    """1 where activations are."""

    def of(self, total: Tally) -> Tally:
        """Return the sums, equal to a tally's own but for the order of its additions."""
        mixed = {name: self.mixed(getattr(total, name)) for name in RECOMPUTED}
        same = {name: self._same(getattr(total, name)) for name in _SAME}
        columns: dict[str, Any] = {**mixed, **same}
        host, states = columns["axis"].get("host", 0.0), columns["states"]
        columns["ahead"] = columns["ahead"] - (1 - self.activations) * host / 2
        columns["optimizer"] = columns["optimizer"] - (1 - self.states) * states
        columns["states"] = self.states * states
        if present(host):
            columns["axis"]["host"] = self.activations * host
        return Tally(**columns)

    def mixed(self, column: Any) -> Any:
        """Return a column for the share of layers."""
        if isinstance(column, dict):
            return {key: self.mixed(value) for key, value in column.items()}
        if np.ndim(column) == 0:
            return column
        start = column[self.none]
        return start + self.share * (column[self.whole] - start)

    def _same(self, column: Any) -> Any:
        """Return a column that is the same in all modes."""
        if isinstance(column, dict):
            return {key: self._same(value) for key, value in column.items()}
        return column if np.ndim(column) == 0 else column[self.none]


RECOMPUTED = ("recompute", "launches", "messages", "ahead", "axis")
"""Sums that depend on what is recomputed and how much is kept."""
_SAME = tuple(f.name for f in fields(Tally) if f.name not in RECOMPUTED)


def summed_tallies(one: Tally, other: Tally) -> Tally:
    """Return the sums of the operations of two lists, as if they were one."""

    def sums(some: Any, more: Any) -> Any:
        if isinstance(some, dict):
            return {key: some.get(key, 0.0) + more.get(key, 0.0) for key in some | more}
        return some + more

    names = [f.name for f in fields(Tally)]
    return Tally(**{name: sums(getattr(one, name), getattr(other, name)) for name in names})


def joined_tallies(totals: list[Tally], sizes: list[int]) -> Tally:
    """Write tallies one below the other."""
    if len(totals) == 1:
        return totals[0]

    def below(columns: list[Any]) -> Any:
        if isinstance(columns[0], dict):
            keys = dict.fromkeys(key for column in columns for key in column)
            return {key: below([column.get(key, 0.0) for column in columns]) for key in keys}
        spread = zip(columns, sizes, strict=True)
        return np.concatenate([np.broadcast_to(column, (count,)) for column, count in spread])

    names = [f.name for f in fields(Tally)]
    return Tally(**{name: below([getattr(total, name) for total in totals]) for name in names})


def turning_shares(total: Tally, asked: Mixture, c: Constants) -> tuple[Num, Num]:
    """Return the shares at which compute begins to cover what is sent to the host, and the shards.

    Device time is convex in the share, as each message is hidden up to a multiple of compute that
    grows; it is least at one of these or at an end.
    """
    none, whole = replace(asked, share=0.0), replace(asked, share=1.0)
    compute, data = none.mixed(total.compute), none.mixed(data_messages(total))
    more = whole.mixed(total.compute) - compute
    host = asked.activations * none.mixed(total.axis.get("host", 0.0))
    # Where compute hides nothing, none is ever covered.
    hides = np.greater(more, 0) & np.greater(c.compute_hides, 0)
    grows = np.where(hides, more * c.compute_hides, np.inf)
    covered = c.compute_hides * compute
    return (host - covered) / (host + grows), (data - covered) / grows
