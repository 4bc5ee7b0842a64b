"""The fitted constants are all in one file, each within bounds, and few."""

from __future__ import annotations

import re
from dataclasses import fields

import numpy as np
import pytest

from crore.cost import Constants, fitted_constants
from crore.cost.constants import constants_from, count_fitted, fitted_rows
from crore.cost.evidence import fitted_widths
from crore.cost.stack import FITTED

ROWS = fitted_rows()["constants"]
NAMES = [f.name for f in fields(Constants)]


def test_the_file_lists_every_constant_and_no_other():
    assert sorted(ROWS) == sorted(NAMES)


def test_at_most_forty_numbers_are_fitted():
    assert count_fitted(fitted_constants()) + len(fitted_widths()) <= 40


@pytest.mark.parametrize("name", NAMES)
def test_a_constant_lies_within_its_bounds_and_says_what_it_is(name):
    row = ROWS[name]
    low, high = row["bounds"]
    for value in np.ravel(row["value"]):
        assert low * (1 - 1e-4) <= value <= high * (1 + 1e-4)  # five digits are written
    assert np.shape(row["prior"]) == np.shape(row["value"])
    assert row["unit"]
    assert row["prior_source"]


def test_no_constant_is_named_after_a_family_a_model_or_a_part(catalog):
    calibration = fitted_rows()["calibration"]
    words = {*calibration["families"], *calibration["accelerators"], *catalog.models()}
    for name in NAMES:
        assert not words & {name, *name.split("_")}


def test_the_file_says_what_it_was_fitted_on(published):
    calibration = fitted_rows()["calibration"]
    assert calibration["runs"] == len(published.measured_s) == 1062
    assert calibration["largest_gpus"] == int(np.max(published.job.layout.gpus))
    assert set(calibration["families"]) == set(published.family)
    assert re.search(r"fit_constants\.py", calibration["command"])


def test_a_constant_per_stack_is_picked_by_the_stacks_code():
    c = fitted_constants()
    codes = np.arange(len(FITTED), dtype=float)
    assert tuple(c.by_stack("traffic", codes)) == c.traffic
    # A shorter list holds its last value for all stacks that follow.
    assert c.by_stack("host_launch_s", codes)[-1] == c.host_launch_s[-1]
    assert c.by_stack("host_launch_s", 0.0) == c.host_launch_s[0]


def test_a_file_that_lacks_a_constant_is_our_mistake():
    with pytest.raises(KeyError):
        constants_from({name: ROWS[name] for name in NAMES[1:]})
