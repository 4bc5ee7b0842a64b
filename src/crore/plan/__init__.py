"""Mission in, plan out: resolve, enumerate, bound, price, explain; and validate the prices."""

from crore.plan.check import CHECK_VERSION, check_mission, check_record, render_check
from crore.plan.compare import COMPARISON_VERSION, Comparison, compare, comparison_record
from crore.plan.compare_text import render_comparison
from crore.plan.explain import (
    EXPLANATION_VERSION,
    Explanation,
    Numbers,
    explain_plan,
    explain_record,
)
from crore.plan.explain_text import render_explained
from crore.plan.fit import FIT_VERSION, FitRequest, fit_record, make_fit
from crore.plan.fit_text import render_fit
from crore.plan.mission import mission_names, read_mission
from crore.plan.plan import Answer, Plan, make_plan
from crore.plan.record import SCHEMA_VERSION, plan_record
from crore.plan.render import render
from crore.plan.request import Limits, PlanRequest
from crore.plan.saved import Saved, read_saved
from crore.plan.validate import VALIDATION_VERSION, Validation, validate_runs, validation_record
from crore.plan.validation_text import render_validation

__all__ = [
    "CHECK_VERSION",
    "COMPARISON_VERSION",
    "EXPLANATION_VERSION",
    "FIT_VERSION",
    "SCHEMA_VERSION",
    "VALIDATION_VERSION",
    "Answer",
    "Comparison",
    "Explanation",
    "FitRequest",
    "Limits",
    "Numbers",
    "Plan",
    "PlanRequest",
    "Saved",
    "Validation",
    "check_mission",
    "check_record",
    "compare",
    "comparison_record",
    "explain_plan",
    "explain_record",
    "fit_record",
    "make_fit",
    "make_plan",
    "mission_names",
    "plan_record",
    "read_mission",
    "read_saved",
    "render",
    "render_check",
    "render_comparison",
    "render_explained",
    "render_fit",
    "render_validation",
    "validate_runs",
    "validation_record",
]
