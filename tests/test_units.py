"""Numbers survive the trip from the keyboard and back to the screen."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crore.errors import MAX_MESSAGE_CHARS, InputError
from crore.units import (
    format_bytes,
    format_count,
    format_duration,
    format_energy,
    format_int,
    format_percent,
    format_si,
    format_usd,
    format_watts,
    limit_value,
    parse_bytes,
    parse_count,
    parse_watts,
    three_digits,
)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1k", 1_000),
        ("16k", 16_000),
        ("16K", 16_000),
        ("10M", 10_000_000),
        ("15T", 15 * 10**12),
        ("15.6T", 15_600_000_000_000),
        ("16,384", 16_384),
        ("16_384", 16_384),
        ("1.5e9", 1_500_000_000),
        ("70B", 70 * 10**9),
        ("70G", 70 * 10**9),
        (" 8 ", 8),
        (8, 8),
    ],
)
def test_a_count_is_read_as_people_write_it(text, value):
    assert parse_count(text) == value


@pytest.mark.parametrize(
    "text",
    [
        "",
        "-5",
        "0",
        "0.5",
        "k",
        "ten",
        "1e99",
        "1.0001k",
        "5x",
        "1k5",
        "nan",
        "9" * 5000,
        "1." + "0" * 30 + "1",
        "8,0",
        "1,6384",
        "1234,567",
        ",384",
        "-0",
    ],
)
def test_what_is_no_positive_whole_number_is_refused_in_one_line(text):
    with pytest.raises(InputError) as caught:
        parse_count(text, "--gpus")
    assert str(caught.value).startswith("--gpus must be a")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) <= MAX_MESSAGE_CHARS


def test_a_negative_count_suggests_the_positive_one():
    with pytest.raises(InputError, match=r"not '-5'; did you mean 5\?"):
        parse_count("-5", "--gpus")


def test_a_suggested_count_is_itself_valid():
    with pytest.raises(InputError, match="write it as 16384"):
        parse_count("-0", "--gpus")


@given(st.integers(min_value=1, max_value=10**30))
def test_a_plain_integer_parses_to_itself(number):
    assert parse_count(str(number)) == number
    assert parse_count(format_int(number)) == number


@given(st.integers(min_value=1, max_value=10**20))
def test_a_formatted_count_parses_back_within_three_digits(number):
    assert parse_count(format_count(number)) == pytest.approx(number, rel=0.00501)


@given(st.integers(min_value=1, max_value=999), st.sampled_from(["", "k", "M", "B", "T"]))
def test_a_round_count_reads_as_it_was_typed(number, letter):
    assert format_count(parse_count(f"{number}{letter}")) == f"{number}{letter}"


@given(st.floats(min_value=1e-12, max_value=1e26))
def test_an_si_number_shows_three_digits_and_keeps_its_value(value):
    number, _, unit = format_si(value, "W").partition(" ")
    scale = {"p": 1e-12, "n": 1e-9, "µ": 1e-6, "m": 1e-3, "": 1.0}
    scale |= {letter: 1000.0**i for i, letter in enumerate("kMGTPEZY", start=1)}
    assert float(number) * scale[unit.removesuffix("W")] == pytest.approx(value, rel=0.00501)
    assert sum(c.isdigit() for c in number.lstrip("0.")) >= 3
    assert "e" not in number


@given(st.floats(min_value=1e-9, max_value=1e12))
def test_a_duration_keeps_its_value(value_s):
    number, _, unit = format_duration(value_s).partition(" ")
    seconds = {"ns": 1e-9, "µs": 1e-6, "ms": 1e-3, "s": 1, "min": 60, "h": 3600, "d": 86400}
    seconds["y"] = 365.25 * 86400
    assert float(number) * seconds[unit] == pytest.approx(value_s, rel=0.00501)


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (format_count(10_000_000), "10M"),
        (format_count(16_384), "16.4k"),
        (format_count(405.853e9), "406B"),
        (format_count(999_999), "1M"),
        (format_si(14e9, "W"), "14.0 GW"),
        (format_si(4.3e-6, "s"), "4.30 µs"),
        (format_bytes(80e9), "80.0 GB"),
        (format_bytes(0), "0 B"),
        (format_duration(0.069), "69.0 ms"),
        (format_duration(13.2), "13.2 s"),
        (format_duration(100 * 86400), "100 d"),
        (format_usd(53.6e9), "$53.6B"),
        (format_usd(2.234), "$2.23"),
        (format_usd(-1500), "-$1.50k"),
        (format_percent(0.385), "38.5 %"),
        (format_int(16384.0), "16,384"),
        (three_digits(123456.0), "123000"),
        (three_digits(math.inf), "inf"),
    ],
)
def test_numbers_read_as_one_would_say_them(shown, expected):
    assert shown == expected


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("24 GB", 24 * 10**9),
        ("24GB", 24 * 10**9),
        ("24 gib", 24 * 2**30),
        ("80e9", 80 * 10**9),
        ("1.5 TB", 1_500 * 10**9),
        ("512 MiB", 512 * 2**20),
        ("1,024 kB", 1_024_000),
        (85_500_000_000, 85_500_000_000),
        ("100 B", 100),
    ],
)
def test_a_size_is_read_in_decimal_and_binary_units(text, value):
    assert parse_bytes(text) == value


@pytest.mark.parametrize(
    ("text", "value"),
    [("350 W", 350), ("350", 350), ("30 MW", 30e6), ("1.2GW", 1.2e9), ("13.9 kw", 13.9e3),
     (2000.0, 2000.0), ("1 TW", 1e12)],
)  # fmt: skip
def test_a_power_is_read_with_its_prefix(text, value):
    assert parse_watts(text) == pytest.approx(value)


@pytest.mark.parametrize(
    "text", ["", "GB", "-1 GB", "0", "24 GW", "24 GBs", "1e99", "nan", "inf", "8,0 GB", "9" * 60]
)
@pytest.mark.parametrize("parse", [parse_bytes, parse_watts])
def test_what_is_no_quantity_is_refused_with_an_example(parse, text):
    if parse is parse_watts and text == "24 GW":
        text = "24 GB"
    with pytest.raises(InputError, match="--limit x must be a positive number such as") as caught:
        parse(text, "--limit x")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) <= MAX_MESSAGE_CHARS


@given(st.floats(1.0, 1e13))
def test_a_power_shown_reads_back_within_three_digits(value):
    assert parse_watts(format_watts(value)) == pytest.approx(value, rel=0.00501)


@given(st.floats(1e4, 1e21))
def test_an_energy_keeps_its_value(joules):
    number, _, unit = format_energy(joules).partition(" ")
    scale = {"kWh": 3.6e6, "MWh": 3.6e9, "GWh": 3.6e12, "TWh": 3.6e15}
    assert float(number) * scale[unit] == pytest.approx(joules, rel=0.00501)


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (format_watts(350), "350 W"),
        (format_watts(23.4e9), "23.4 GW"),
        (format_watts(13_900), "13.9 kW"),
        (format_watts(999.7), "1.00 kW"),
        (format_watts(0), "0 W"),
        (format_energy(3.6e6), "1.00 kWh"),
        (format_energy(56.2 * 3.6e15), "56.2 TWh"),
        (format_energy(999.7 * 3.6e12), "1.00 TWh"),
        (format_energy(0), "0 kWh"),
    ],
)
def test_power_and_energy_read_as_one_would_say_them(shown, expected):
    assert shown == expected


@pytest.mark.parametrize(
    ("key", "text", "expected"),
    [
        ("memory", "80 GB", {"memory_bytes": 80 * 10**9}),
        ("power", "30 MW", {"power_w": 30e6}),
        ("days", "90", {"days": 90.0}),
        ("days", "0.5 days", {"days": 0.5}),
        ("days", 7, {"days": 7.0}),
        ("memory_margin", "0", {"memory_margin": 0.0}),
        ("memory_margin", 0.1, {"memory_margin": 0.1}),
        ("gpus", "8k", {"gpus": 8000}),
        ("world_gpus", 512, {"world_gpus": 512}),
        ("global_batch_tokens", "16M", {"global_batch_tokens": 16 * 10**6}),
    ],
)
def test_a_limit_comes_under_the_key_that_holds_it(key, text, expected):
    assert limit_value(key, text, key) == expected


@pytest.mark.parametrize(
    ("key", "text", "words"),
    [
        ("days", "0", "days must be a positive number such as 90"),
        ("days", "3 h", "such as 90, not '3 h'"),
        ("memory_margin", "-0.1", "such as 0.04"),
        ("memory_margin", "4 days", "such as 0.04"),
        ("memory", "lots", "such as 24 GB or 24 GiB"),
        ("gpus", "0.5", "whole number"),
    ],
)
def test_a_limit_out_of_range_is_refused_with_an_example(key, text, words):
    with pytest.raises(InputError, match=words):
        limit_value(key, text, key)
