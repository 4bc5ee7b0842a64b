"""The whole run of a plan: what becomes progress, when it ends, what eats the rest."""

from crore.simulate.run.report import SCHEMA_VERSION, record, render
from crore.simulate.run.step import Step, step_of
from crore.simulate.run.subject import Subject, subject_of
from crore.simulate.run.whole import Simulation, simulate_plan

__all__ = [
    "SCHEMA_VERSION",
    "Simulation",
    "Step",
    "Subject",
    "record",
    "render",
    "simulate_plan",
    "step_of",
    "subject_of",
]
