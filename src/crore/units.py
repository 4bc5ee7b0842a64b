"""Numbers at the edge: what a user types becomes a plain number, and back with three digits.

Inside crore every quantity is SI with its unit in the name (`_s`, `_bytes`, `_usd`); only this file
knows about `16k`, `15T`, `80 GB`, `13.2 s` and `$53.6B`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from fractions import Fraction

from crore.errors import InputError

_COUNT_SCALES = {"": 0, "k": 3, "m": 6, "b": 9, "g": 9, "t": 12, "p": 15, "e": 18}
_WHOLE = r"(?:\d{1,3}(?:,\d{3})+|\d[\d_]*)"  # a comma only where it parts thousands
_COUNT = re.compile(
    rf"({_WHOLE}(?:\.\d+)?|\.\d+)(?:e\+?(\d{{1,2}}))?\s*([a-z]?)", re.IGNORECASE | re.ASCII
)
_QUANTITY = re.compile(
    rf"({_WHOLE}(?:\.\d+)?(?:e\+?\d{{1,2}})?)\s*([a-z]*)", re.IGNORECASE | re.ASCII
)
_BYTE_UNITS = {"": 1.0, "b": 1.0, "kb": 1e3, "mb": 1e6, "gb": 1e9, "tb": 1e12, "kib": 2.0**10,
               "mib": 2.0**20, "gib": 2.0**30, "tib": 2.0**40}  # fmt: skip
_WATT_UNITS = {"": 1.0, "w": 1.0, "kw": 1e3, "mw": 1e6, "gw": 1e9, "tw": 1e12}
_COUNT_LETTERS = ("", "k", "M", "B", "T", "P", "E")
_SI_PREFIXES = ("", "k", "M", "G", "T", "P", "E", "Z", "Y")
_WATT_HOURS = ("kWh", "MWh", "GWh", "TWh")
_SMALL_PREFIXES = ("", "m", "µ", "n", "p")
LIMIT_KEYS = ("gpus", "memory", "memory_margin", "global_batch_tokens", "power", "days",
              "world_gpus")  # fmt: skip
"""What a plan may be limited in: the keys of `--limit` and of a mission's [limits]."""
_MAX_COUNT = 10**30
_MAX_CHARS = 50
_DURATIONS = ((365.25 * 86400, "y"), (86400.0, "d"), (3600.0, "h"), (60.0, "min"), (1.0, "s"))
# Two units of a size are kept in the smaller one: 90 s, 36 h, 500 d.
_KEEP_SMALLER = 2.0


def parse_count(text: str | float, name: str = "count") -> int:
    """Read a positive whole number: `16384`, `16,384`, `16k`, `10M`, `15T`, `1.5e9`.

    Letters are decimal (k = 1,000; M, B or G, T, P, E) in either case. Raises `InputError`, naming
    the flag or key `name`, for anything else, and for a number below one.
    """
    shown = str(text).strip()
    value = _exact(shown)
    if value is None:
        raise InputError(f"{name} must be a positive whole number{_count_hint(shown)}")
    if not _is_count(value):
        raise InputError(f"{name} must be a whole number from 1 to 1e30, not {shown[:40]!r}")
    return int(value)


def parse_bytes(text: str | float, name: str = "memory") -> int:
    """Read a size: `24 GB`, `24GiB`, `80e9`. Raises `InputError`, naming `name`."""
    return int(_quantity(text, name, _BYTE_UNITS, "24 GB or 24 GiB"))


def parse_watts(text: str | float, name: str = "power") -> float:
    """Read a power: `350 W`, `30 MW`, `1.2GW`. Raises `InputError`, naming `name`."""
    return _quantity(text, name, _WATT_UNITS, "30 MW")


def _quantity(
    text: str | float, name: str, units: Mapping[str, float], example: str, least: float = 0.0
) -> float:
    shown = str(text).strip()
    match = _QUANTITY.fullmatch(shown) if len(shown) <= _MAX_CHARS else None
    unit = match[2].lower() if match else "?"
    value = float(match[1].replace("_", "").replace(",", "")) if match else 0.0
    if unit not in units or not least < value * units[unit] <= _MAX_COUNT:
        raise InputError(f"{name} must be a positive number such as {example}, not {shown[:40]!r}")
    return value * units[unit]


def _exact(shown: str) -> Fraction | None:
    """Return the number written, exactly (unlike a float); None for what is no number."""
    match = _COUNT.fullmatch(shown) if len(shown) <= _MAX_CHARS else None
    if match is None or match[3].lower() not in _COUNT_SCALES:
        return None
    exponent = int(match[2] or 0) + _COUNT_SCALES[match[3].lower()]
    return Fraction(re.sub("[_,]", "", match[1])) * Fraction(10) ** exponent


def _is_count(value: Fraction) -> bool:
    return 1 <= value <= _MAX_COUNT and value.denominator == 1


def _count_hint(shown: str) -> str:
    """Return what was given, and the same number made valid where one can guess it."""
    given = f", not {shown[:40]!r}"
    positive = shown.lstrip("-+ ")
    value = _exact(positive)
    if value is not None and _is_count(value):
        return f"{given}; did you mean {positive}?"
    return f"{given}; write it as 16384, 16k, 10M or 15T"


def three_digits(value: float) -> str:
    """Return `value` with three significant digits, never in exponent form: 0.0123, 1.23, 123.

    Values that need more than three digits before the point keep them all, rounded to three.
    """
    if value == 0 or not math.isfinite(value):
        return "0" if value == 0 else str(value)
    decimals = 2 - _exponent(value)
    return f"{round(value, decimals):.{max(decimals, 0)}f}"


def format_si(value: float, unit: str) -> str:
    """Return `value` with an SI prefix and three significant digits: `14.0 GW`, `4.30 µs`.

    `value` is in `unit`; counts of tokens or GPUs read better with `format_count`.
    """
    number, step = _scaled(value, len(_SI_PREFIXES) - 1, len(_SMALL_PREFIXES) - 1)
    prefix = _SI_PREFIXES[step] if step >= 0 else _SMALL_PREFIXES[-step]
    return f"{number} {prefix}{unit}".rstrip()


def format_count(value: float) -> str:
    """Return a count with three significant digits and k, M, B, T, P or E: `16.4k`, `405B`, `10M`.

    Zeros after the point are dropped, so a round count reads as it is typed.
    """
    number, step = _scaled(value, len(_COUNT_LETTERS) - 1, 0)
    if "." in number:
        number = number.rstrip("0").rstrip(".")
    return number + _COUNT_LETTERS[step]


def format_int(value: float) -> str:
    """Return a whole number with thousands separators: `16,384`."""
    return f"{round(value):,}"


def format_bytes(value: float) -> str:
    """Return bytes with a decimal prefix: `80.0 GB` is 80e9 bytes, as the makers count."""
    return format_si(value, "B")


def format_duration(value_s: float) -> str:
    """Return seconds in the unit one would say: `69.0 ms`, `90.0 s`, `36.0 h`, `100 d`."""
    if abs(value_s) < 1:
        return format_si(value_s, "s")
    for unit_s, unit in _DURATIONS:
        if abs(value_s) >= _KEEP_SMALLER * unit_s:
            return f"{three_digits(value_s / unit_s)} {unit}"
    return f"{three_digits(value_s)} s"


def format_watts(value: float) -> str:
    """Return a power with three digits: `350 W`, `23.4 GW`."""
    return format_si(value, "W")


def format_energy(joules: float) -> str:
    """Return an energy in watt-hours with three digits: `56.2 TWh`; from kWh on."""
    number, step = _scaled(joules / 3.6e6, len(_WATT_HOURS) - 1, 0)
    return f"{number} {_WATT_HOURS[step]}"


def format_kg(value: float) -> str:
    """Return a mass in kg, t, kt or Mt: `12.3 kg`, `8.93 kt`, `22.9 Mt`."""
    for scale, unit in ((1e9, "Mt"), (1e6, "kt"), (1e3, "t")):
        if value >= scale * (1 - 5e-4):
            return f"{three_digits(value / scale)} {unit}"
    return f"{three_digits(value)} kg"


def format_usd(value: float) -> str:
    """Return dollars with three significant digits: `$2.23`, `$61.0`, `$53.6B`."""
    sign = "-" if value < 0 else ""
    number, step = _scaled(abs(value), len(_COUNT_LETTERS) - 1, 0)
    return f"{sign}${number}{_COUNT_LETTERS[step]}"


def format_percent(fraction: float) -> str:
    """Return a fraction as percent with three significant digits: `0.385` is `38.5 %`."""
    return f"{three_digits(100 * fraction)} %"


def _scaled(value: float, largest: int, smallest: int) -> tuple[str, int]:
    """Return `value / 1000**step` with three digits, and the step, within -smallest..largest."""
    if value == 0 or not math.isfinite(value):
        return three_digits(value), 0
    step = min(max(_exponent(value) // 3, -smallest), largest)
    # Dividing by an exact power keeps 1e-3 from becoming 1.0000000000000002e-3.
    scaled = value / 1000.0**step if step >= 0 else value * 1000.0**-step
    return three_digits(scaled), step


def _exponent(value: float) -> int:
    """Return the decimal exponent after rounding to three digits (999.7 rounds up to 1.00e3)."""
    return int(f"{value:.2e}".partition("e")[2])


def limit_value(key: str, value: str | float, name: str) -> dict[str, float | int]:
    """Return one limit under the key of the record that holds it, in SI: `memory` as bytes.

    `name` is what messages call it. Raises `InputError` for a value out of range.
    """
    if key == "memory":
        return {"memory_bytes": parse_bytes(value, name)}
    if key == "power":
        return {"power_w": parse_watts(value, name)}
    if key == "days":
        return {key: _quantity(value, name, {"": 1.0, "d": 1.0, "days": 1.0}, "90")}
    if key == "memory_margin":
        return {key: _quantity(value, name, {"": 1.0}, "0.04", least=-1.0)}
    return {key: parse_count(value, name)}
