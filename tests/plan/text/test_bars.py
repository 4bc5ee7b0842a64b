"""Bars: each part begins where the one before ends, and all end at the whole."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crore.errors import InputError
from crore.plan.text.bars import BEFORE, SMALLEST, cells_of, level, rest, rows, waterfall
from crore.plan.text.screen import Screen

sizes = st.lists(st.floats(0, 1e12), min_size=1, max_size=20).filter(lambda it: sum(it) > 0)
screens = st.builds(Screen, columns=st.integers(60, 120), blocks=st.booleans())


def named(values):
    return {f"part {k}": value for k, value in enumerate(values)}


@given(sizes)
def test_a_waterfall_is_whole(values):
    parts = waterfall(named(values), sum(values))
    assert [part.value for part in parts] == [v for v in values if v >= SMALLEST * sum(values)]
    assert all(part.end - part.start == pytest.approx(part.value / sum(values)) for part in parts)
    assert all(a.end <= b.start + 1e-9 for a, b in pairwise(parts))
    left_out = sum(v for v in values if v < SMALLEST * sum(values)) / sum(values)
    assert sum(part.end - part.start for part in parts) == pytest.approx(1 - left_out)


@given(sizes, screens)
def test_no_bar_is_wider_than_its_screen_and_none_is_lost(values, screen):
    lines = list(rows(named(values), sum(values), lambda v: f"{v:.3g}", screen))
    assert max(map(len, lines)) <= screen.columns
    full, thin = ("█", "▏") if screen.blocks else ("#", "|")
    assert all(line[-1] in (full, thin) for line in lines)
    drawn = sum(line.count(full) for line in lines)
    assert drawn == pytest.approx(cells_of(screen), abs=len(values))


@given(st.floats(0.01, 1), screens)
def test_the_bar_of_the_whole_is_taken_and_free(used, screen):
    line = level("68 GB of 80 GB", used, screen)
    left = rest("free", "12 GB", used, screen)
    taken, free, end = "█░▏" if screen.blocks else "#.|"
    cells = cells_of(screen)
    assert line.count(taken) + line.count(free) == cells
    assert line.count(taken) == max(1, round(used * cells))
    assert line.endswith(end)
    assert left[BEFORE:].count(free) == cells - round(used * cells)
    assert line.index(end) == left.index(end)


def test_a_screen_has_room_for_a_bar():
    with pytest.raises(InputError, match="60 columns or more, not 59"):
        Screen(columns=59)
