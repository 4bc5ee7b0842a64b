"""Pipeline schedules as ordered passes: played event by event, drawn as a step's timeline."""

from crore.simulate.schedules.events import (
    Jitter,
    Played,
    StageTimes,
    even_stages,
    simulate_schedule,
)
from crore.simulate.schedules.order import Order, order_of
from crore.simulate.schedules.passes import Pass, Slot
from crore.simulate.schedules.timeline import Timeline, job_timeline, plan_timeline, step_timeline

__all__ = [
    "Jitter",
    "Order",
    "Pass",
    "Played",
    "Slot",
    "StageTimes",
    "Timeline",
    "even_stages",
    "job_timeline",
    "order_of",
    "plan_timeline",
    "simulate_schedule",
    "step_timeline",
]
