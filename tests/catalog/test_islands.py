"""What islands were measured to learn: tiny models, said to be such, and their ranges in order."""

from __future__ import annotations

import pytest

from crore.catalog.islands import build_measured_islands, load_measured_islands
from crore.cost.islands import MEASURED_PARAMETERS
from crore.errors import InputError

ROW = {
    "islands": 2, "interval": 30, "parameters": 80112, "tokens": 1843200, "low": 0.7, "value": 0.8,
    "high": 0.9, "source": "crore", "date": "2026-11", "verified": True,
}  # fmt: skip


def test_a_row_is_a_record():
    found = build_measured_islands("m2-h30", ROW)
    assert (found.islands, found.interval, found.tokens) == (2, 30, 1843200)
    assert (found.low, found.value, found.high) == (0.7, 0.8, 0.9)


@pytest.mark.parametrize(
    ("change", "message"),
    [({"low": 0.85}, "low <= value"), ({"islands": 0}, "islands"), ({"colour": 1}, "colour")],
)
def test_a_wrong_row_is_refused(change, message):
    with pytest.raises(InputError, match=message):
        build_measured_islands("m2-h30", ROW | change)


def test_the_shipped_rows_are_of_models_below_those_of_the_published_laws():
    rows = load_measured_islands()
    assert rows
    for row in rows:
        assert row.parameters < MEASURED_PARAMETERS[0]
        assert "benchmarks/islands" in row.provenance.source
    settings = [(row.parameters, row.islands, row.interval) for row in rows]
    assert len(set(settings)) == len(settings)
