"""Which samples of a step each world of an island takes, whoever is there."""

from __future__ import annotations

import math

from crore.train.fault.seat import Seat
from crore.train.peers import Share


def share_of(
    seat: Seat, place: int, size: int, first: int, samples: int, unit: int, *, equal: bool
) -> Share:
    """Return the part of world number `place` of the `size` that are there.

    `samples` are all islands' from `first` on; worlds run whole units of `unit` sequences, and as
    many each where `equal`. Worlds beyond the planned ones are spares. With `keep-batch` those that
    are there share the island's samples; with `scale-lr` each takes its planned part, and the rate
    is lower by the root of the batch (Adam's rule, arXiv 2205.10287). Then one island goes on at
    the first sample that nobody took; of several, which lose worlds each at its own time, all go
    on after the whole batch, so that no sample is taken by two.
    """
    own = samples // seat.islands
    start = first + seat.island * own
    active = min(size, seat.worlds)
    units = math.ceil(own / unit)
    if seat.lost == "scale-lr":
        each = math.ceil(units / seat.worlds)
        taken = samples if seat.islands > 1 else min(own, active * each * unit)
        return _part(start, own, unit, place, active, each, taken, shrink=True)
    if equal:
        each = math.ceil(units / active)
        return _part(start, own, unit, place, active, each, samples)
    low, more = divmod(units, active)
    if place >= active:
        return Share(first=start, samples=0, rows=0, whole=own, taken=samples)
    begin = unit * (place * low + min(place, more))
    end = min(unit * ((place + 1) * low + min(place + 1, more)), own)
    rows = unit * math.ceil((end - begin) / unit)
    return Share(
        first=start + begin, samples=max(end - begin, 0), rows=rows, whole=own, taken=samples
    )


def _part(
    start: int, own: int, unit: int, place: int, active: int, each: int, taken: int, *,
    shrink: bool = False,
) -> Share:  # fmt: skip
    """Return an equal part of `each` units; the last may hold fewer samples than it runs."""
    whole = min(own, active * each * unit) if shrink else own
    begin = min(place * each * unit, whole)
    end = min(begin + each * unit, whole)
    active_here = place < active
    return Share(
        first=start + begin, samples=end - begin if active_here else 0,
        rows=each * unit if active_here else 0, whole=whole, taken=taken,
        lr=math.sqrt(whole / own) if shrink else 1.0,
    )  # fmt: skip
