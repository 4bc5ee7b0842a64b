"""Pipeline schedules as ordered passes: played event by event, drawn as a step's timeline."""

from crore.simulate.schedules.events import Jitter, Played, StageTimes, simulate_schedule
from crore.simulate.schedules.order import Order, order_of
from crore.simulate.schedules.passes import Pass, Slot

__all__ = [
    "Jitter",
    "Order",
    "Pass",
    "Played",
    "Slot",
    "StageTimes",
    "order_of",
    "simulate_schedule",
]
