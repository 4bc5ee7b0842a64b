"""The bill of materials of a network: whole parts, each with its price and power."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from crore.catalog.parts import Estimate, Part


@dataclass(frozen=True, kw_only=True, slots=True)
class Item:
    """One line of a bill of materials."""

    name: str
    """Key of the part in the catalogue."""
    count: int
    unit_usd: float
    total_usd: float
    power_w: float
    """Of all of them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Bill:
    """All lines, and their sums."""

    items: tuple[Item, ...]
    price_usd: Estimate
    """All low prices together, all likely ones, all high ones."""
    power_w: float


def bill_of(lines: Iterable[tuple[Part, int]]) -> Bill:
    """Return the bill of so many of each part, parts that none is needed of left out."""
    bought = [(part, count) for part, count in lines if count]
    items = tuple(
        Item(
            name=part.name,
            count=count,
            unit_usd=part.price_usd.value,
            total_usd=count * part.price_usd.value,
            power_w=count * part.power_w,
        )
        for part, count in bought
    )
    return Bill(
        items=items,
        price_usd=Estimate(
            low=sum(count * part.price_usd.low for part, count in bought),
            value=sum(item.total_usd for item in items),
            high=sum(count * part.price_usd.high for part, count in bought),
        ),
        power_w=sum(item.power_w for item in items),
    )


def units(bytes_per_s: float, part: Part) -> int:
    """Return how many of a part carry that bandwidth; slower links share one."""
    return math.ceil(bytes_per_s / part.bytes_per_s * (1 - 1e-12))
