"""The swing of a load in step, by closed form and by adding up the waves themselves."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crore.cost.load import hourly_kg, load_of
from crore.errors import InputError


def test_a_site_of_half_a_million_gpus():
    """1.2 kW boards, half of a 13.2-s step waiting: 330 MW, 0.30 MWh of storage."""
    found = load_of(5e5, 1200.0, 1, 13.2, 6.6)
    assert found.swing_w == pytest.approx(330e6)
    assert found.storage_j == pytest.approx(330e6 * 13.2 / 4)
    assert found.storage_j / 3.6e9 == pytest.approx(0.30, abs=0.005)


def test_twenty_sites_by_chance_are_a_quarter_of_twenty_in_phase():
    found = load_of(1e7, 1200.0, 20, 13.2, 6.6)
    assert found.swing_random_w / found.swing_w == pytest.approx(20**-0.5)
    assert found.swing_staggered_w == 0.0  # ten of twenty are low at any time


@settings(max_examples=40)
@given(st.integers(1, 24), st.integers(1, 99))
def test_staggered_waves_leave_what_the_closed_form_says(islands, percent):
    """Sum square waves at even phases: peak to trough, and the energy above their mean."""
    low, grid = percent / 100, 14_400
    time = (np.arange(grid) + 0.5) / grid
    total = np.zeros(grid)
    for k in range(islands):
        total += np.where((time + k / islands) % 1.0 < low, 0.0, 1.0 / islands)
    found = load_of(1.0, 1 / 0.55, islands, 1.0, low)
    assert np.ptp(total) == pytest.approx(found.swing_staggered_w, abs=1e-9)
    above = np.cumsum(total - total.mean()) / grid
    # The buffer's travel, one fast period long: its range.
    assert np.ptp(above) == pytest.approx(found.storage_staggered_j, abs=2e-3 / islands)


def test_a_load_that_never_waits_does_not_swing():
    assert load_of(1e6, 700.0, 4, 5.0, 0.0).swing_w == 0.0


@pytest.mark.parametrize("fields", [(1.0, 1.0, 0, 1.0, 0.5), (1.0, 1.0, 1, 1.0, 2.0)])
def test_sizes_out_of_range_are_refused(fields):
    with pytest.raises(InputError, match="a load is low"):
        load_of(*fields)


def test_the_hour_of_the_day_counts():
    """A megawatt for 30 hours from noon, clean by day: 24 hours alike, six in the afternoon."""
    day = tuple(0.1 if 6 <= hour < 18 else 0.5 for hour in range(24))
    assert hourly_kg(1e6, 30.0, day, start_hour=12) == pytest.approx(1000 * (24 * 0.3 + 6 * 0.1))
    assert hourly_kg(1e6, 0.5, day, start_hour=0) == pytest.approx(250.0)
    with pytest.raises(InputError, match="24 intensities"):
        hourly_kg(1e6, 1.0, (0.1, 0.2))
