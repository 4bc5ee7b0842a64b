"""Every part has a price with its range, and a source that says the price is an estimate."""

from __future__ import annotations

import pytest

from crore.catalog.parts import build_part, part, parts
from crore.errors import InputError, UnknownName

CABLE = {
    "title": "a cable",
    "kind": "copper",
    "gbit_per_s": 800,
    "price_usd": [80, 150, 300],
    "power_w": 0.2,
    "source": "mine",
    "date": "2025",
}


def test_no_price_claims_to_be_verified():
    for one in parts().values():
        assert not one.provenance.verified
        assert "estimate" in one.provenance.source
        assert one.price_usd.low < one.price_usd.value < one.price_usd.high


def test_switches_double_from_one_generation_to_the_next():
    rates = [one.bytes_per_s * 8 / 1e12 for one in parts().values() if one.kind == "switch"]
    assert rates == pytest.approx([25.6, 51.2, 102.4])


@pytest.mark.parametrize(
    ("name", "kind", "usd", "watts"),
    [
        ("51.2t", "switch", 45_000, 900),
        ("102.4t", "switch", 90_000, 1_700),
        ("dsp", "optic", 600, 15),
        ("lpo", "optic", 450, 8.5),
        ("cpo", "optic", 400, 5.4),
        ("dac", "copper", 150, 0.2),
        ("fibre", "fibre", 120, 0),
        ("nic", "nic", 1_500, 25),
    ],
)
def test_a_part_costs_and_draws_what_the_design_tables_assume(name, kind, usd, watts):
    found = part(name, kind)
    assert (found.price_usd.value, found.power_w) == (usd, watts)


def test_a_51_terabit_switch_is_64_ports_of_800_gigabit():
    found = part("51.2t", "switch")
    assert found.bytes_per_s == 64 * 100e9
    assert found.ports == 512


def test_a_part_is_found_by_its_kind():
    with pytest.raises(UnknownName, match=r"unknown optic 'lp'; did you mean lpo\?"):
        part("lp", "optic")
    with pytest.raises(UnknownName, match=r"unknown switch 'dsp'"):
        part("dsp", "switch")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"price_usd": 150}, r"price_usd is \[low, likely, high\], not 150"),
        ({"price_usd": [300, 150, 80]}, "rising"),
        ({"price_usd": [80, -1, 300]}, "price_usd is a number >= 0"),
        ({"price": 1}, "did you mean price_usd"),
        ({"kind": "rope"}, "kind is one of switch"),
        ({"kind": "switch"}, "needs ports"),
        ({"gbit_per_s": 0}, "gbit_per_s is a number > 0"),
        ({"source": ""}, "has no source"),
    ],
)
def test_a_wrong_row_is_refused(change, message):
    with pytest.raises(InputError, match=message):
        build_part("mine", {**CABLE, **change})


def test_rates_become_bytes_per_second():
    assert build_part("mine", CABLE).bytes_per_s == 100e9
