"""Mission in, plan out: resolve, enumerate, constrain, price, explain; and validate the prices."""

from crore.plan.mission import mission_names, read_mission
from crore.plan.plan import SCHEMA_VERSION, Plan, make_plan, plan_record
from crore.plan.render import render
from crore.plan.request import PlanRequest
from crore.plan.validate import Validation, validate_runs, validation_record
from crore.plan.validation_text import render_validation

__all__ = [
    "SCHEMA_VERSION",
    "Plan",
    "PlanRequest",
    "Validation",
    "make_plan",
    "mission_names",
    "plan_record",
    "read_mission",
    "render",
    "render_validation",
    "validate_runs",
    "validation_record",
]
