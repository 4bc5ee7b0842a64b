"""What an accelerator costs per hour: owned in a data centre, or a card under a desk."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np

from crore.catalog import Economics
from crore.cost.arrays import Num
from crore.errors import InputError

HOURS_PER_YEAR = 8760
WATTS_PER_KW = 1000
Spread: TypeAlias = tuple[Num, Num, Num]
"""(low, value, high)."""


def capital_recovery(rate: Num, years: Num) -> Num:
    """Yearly payment per dollar spent: `r/(1 - (1+r)^-n)`; 0.250 at 8 % over 5 years."""
    return rate / (1 - (1 + rate) ** -years)


def it_usd(price_usd: Num, economics: Economics) -> Spread:
    """Dollars per accelerator with its host, network and storage, from its catalogue price.

    InputError when the price is not known (0).
    """
    _check_price(price_usd)
    low, value, high = economics.figure("it_all_in").spread()
    return price_usd * low, price_usd * value, price_usd * high


def facility_usd(power_w: Num, economics: Economics) -> Spread:
    """Dollars of land, building, power and cooling per accelerator of `power_w` at the meter."""
    low, value, high = economics.figure("facility_usd_per_w").spread()
    return power_w * low, power_w * value, power_w * high


def ownership_usd_per_gpu_hour(
    it_usd: Num | Spread, facility_usd: Num | Spread, power_w: Num, economics: Economics
) -> Spread:
    """Return (low, value, high) dollars of owning and running one accelerator for an hour.

    `(IT·CRF(r, 5) + facility·CRF(r, 15) + upkeep·(IT + facility) + 8760·kW·USD/kWh)/8760`, whatever
    the machine does; `power_w` is at the meter. Low takes every figure at its cheap end together,
    high at its dear end: bounds, no interval of probability. 2.23 for a GPU of a GB200 rack.
    """
    names = ("cost_of_capital", "upkeep", "electricity_usd_per_kwh")
    rates = zip(*(economics.figure(name).spread() for name in names), strict=True)
    # A long life is the cheap end.
    lives = zip(
        *(economics.figure(name).spread()[::-1] for name in ("it_years", "facility_years")),
        strict=True,
    )
    low, value, high = (
        _hourly(it, facility, power_w, rate, life)
        for it, facility, rate, life in zip(
            _spread(it_usd), _spread(facility_usd), rates, lives, strict=True
        )
    )
    return low, value, high


def card_usd_per_gpu_hour(price_usd: Num, power_w: Num, economics: Economics) -> Spread:
    """Return (low, value, high) dollars per hour of a card at home: its purchase and electricity.

    The purchase is written off over `card_years` of use around the clock, without interest or
    upkeep; `power_w` is at the socket. InputError when the price is not known (0).
    """
    _check_price(price_usd)
    years = economics.figure("card_years").spread()[::-1]
    tariffs = economics.figure("household_usd_per_kwh").spread()
    low, value, high = (
        price_usd / (HOURS_PER_YEAR * life) + power_w / WATTS_PER_KW * tariff
        for life, tariff in zip(years, tariffs, strict=True)
    )
    return low, value, high


def _check_price(price_usd: Num) -> None:
    if np.any(np.less_equal(price_usd, 0)):
        raise InputError("no price is known: give the accelerator's row a price_usd over 0")


def _spread(usd: Num | Spread) -> Spread:
    return usd if isinstance(usd, tuple) else (usd, usd, usd)


def _hourly(
    it: Num, facility: Num, power_w: Num, rates: tuple[float, ...], lives: tuple[float, ...]
) -> Num:
    """Return dollars per hour for one choice of rates and lives."""
    cost_of_capital, upkeep, usd_per_kwh = rates
    it_years, facility_years = lives
    capital = it * capital_recovery(cost_of_capital, it_years)
    capital = capital + facility * capital_recovery(cost_of_capital, facility_years)
    yearly = capital + upkeep * (it + facility)
    return yearly / HOURS_PER_YEAR + power_w / WATTS_PER_KW * usd_per_kwh
