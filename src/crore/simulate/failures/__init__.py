"""Failures and the policies that survive them: closed forms, Monte-Carlo, a timeline.

One record `Run` says what fails and what recovery takes; `goodput` and `run_distribution` read it.
"""

from crore.simulate.failures.catalogue import catalogue_run, spares_share
from crore.simulate.failures.closed import goodput
from crore.simulate.failures.distribution import (
    Distribution,
    Unsure,
    elasticities,
    run_distribution,
)
from crore.simulate.failures.outcome import CAUSES, Outcome
from crore.simulate.failures.params import POLICIES, RESTARTS, Hazard, Policy, Run, failures_only
from crore.simulate.failures.timeline import Event, chrome_trace, timeline

__all__ = [
    "CAUSES",
    "POLICIES",
    "RESTARTS",
    "Distribution",
    "Event",
    "Hazard",
    "Outcome",
    "Policy",
    "Run",
    "Unsure",
    "catalogue_run",
    "chrome_trace",
    "elasticities",
    "failures_only",
    "goodput",
    "run_distribution",
    "spares_share",
    "timeline",
]
