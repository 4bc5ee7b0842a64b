"""Every price has a range and says where it is from."""

from __future__ import annotations

import pytest

from crore.catalog import load_catalog, load_economics
from crore.catalog.economics import build_figure
from crore.errors import InputError, UnknownName

ECONOMICS = load_economics()
ROW = {"low": 1, "value": 2, "high": 3, "unit": "USD", "source": "mine", "date": "2026"}


def test_every_figure_is_a_true_range_with_a_source():
    for name, figure in [*ECONOMICS.figures.items(), *ECONOMICS.rentals.items()]:
        assert figure.low < figure.value < figure.high, name
        assert figure.unit
        assert figure.provenance.source


def test_an_estimate_is_not_called_verified():
    for name, figure in [*ECONOMICS.figures.items(), *ECONOMICS.rentals.items()]:
        if figure.provenance.source.startswith("estimate"):
            assert not figure.provenance.verified, name


def test_rentals_name_accelerators_of_the_catalogue():
    assert set(ECONOMICS.rentals) <= set(load_catalog().accelerators())


def test_nobody_rents_out_what_is_not_listed():
    assert ECONOMICS.rental("vr-nvl144") is None


def test_an_unknown_figure_names_the_nearest():
    with pytest.raises(UnknownName, match="upkeep"):
        ECONOMICS.figure("upkep")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"low": 2.5}, "low <= value <= high"),
        ({"high": None}, "needs high"),
        ({"unit": None}, "unit"),
        ({"source": None}, "no source"),
        ({"price": 3}, "unknown key"),
    ],
)
def test_a_bad_figure_is_refused_by_its_reason(change, message):
    row = {key: value for key, value in {**ROW, **change}.items() if value is not None}
    with pytest.raises(InputError, match=message):
        build_figure("mine", row)
