"""Supply step by step: deliveries, losses and retirements of every cohort; generations mixed."""

from crore.simulate.supply.fleet import History, grow
from crore.simulate.supply.report import (
    SUPPLY_VERSION,
    Supply,
    render_supply,
    supply_of,
    supply_record,
)
from crore.simulate.supply.start import Phase, Starts, rate_of, starts_of

__all__ = [
    "SUPPLY_VERSION",
    "History",
    "Phase",
    "Starts",
    "Supply",
    "grow",
    "rate_of",
    "render_supply",
    "starts_of",
    "supply_of",
    "supply_record",
]
