"""What a fleet's logs show of its faults."""

from __future__ import annotations

from dataclasses import replace

from tests.train.feed import nth_step

from crore.train.fault.audit import _hits
from crore.train.records import Event, Record, Step


def at(second: float, record: Record) -> Record:
    """Return a record as it was told at some second."""
    return replace(record, time=f"2026-11-27T07:38:{second:06.3f}+00:00")


def test_steps_that_were_taken_back_are_none_that_a_world_is_behind():
    torn = Event(step=4, what="roll back", message="torn", first_sample=32, samples=0)
    flip = Event(step=6, what="chaos", message="world 1 is told to flip a bit", first_sample=None,
                 samples=None)  # fmt: skip
    logs = {
        world: [
            *(at(second, nth_step(second)) for second in range(1, last)),
            at(9 + later_s, torn), at(10 + later_s, nth_step(5)),
        ]
        for world, last, later_s in ((0, 8, 0.2), (1, 7, 0.1))
    }  # fmt: skip
    steps = {n: [it for it in told if isinstance(it, Step)] for n, told in logs.items()}
    (hit,) = _hits([at(7, flip)], logs, steps)
    assert (hit.world, hit.back_behind) == (1, 0)
