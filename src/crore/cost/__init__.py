"""Every closed form: FLOPs, bytes, messages, time and memory of a training step, for N candidates.

`Job` asks, `operations` lists what a step does, `step_time` and `memory` price that list,
`interval` says how sure the answer is.
"""

from crore.cost.constants import Constants, fitted_constants
from crore.cost.evidence import evidence_of, interval
from crore.cost.job import Job
from crore.cost.layout import Layout
from crore.cost.machine import Machine, machine_of
from crore.cost.memory import Memory, memory
from crore.cost.operations import Operation
from crore.cost.schedules import SCHEDULES
from crore.cost.shape import (
    Shape,
    active_parameters,
    forward_flops_per_token,
    parameters,
    shape_of,
)
from crore.cost.stack import Stack, stack_of
from crore.cost.step import forward_operations, operations
from crore.cost.step_time import StepTime, step_time

__all__ = [
    "SCHEDULES",
    "Constants",
    "Job",
    "Layout",
    "Machine",
    "Memory",
    "Operation",
    "Shape",
    "Stack",
    "StepTime",
    "active_parameters",
    "evidence_of",
    "fitted_constants",
    "forward_flops_per_token",
    "forward_operations",
    "interval",
    "machine_of",
    "memory",
    "operations",
    "parameters",
    "shape_of",
    "stack_of",
    "step_time",
]
