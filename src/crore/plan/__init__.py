"""Mission in, plan out: resolve, enumerate, bound, price, explain; and validate the prices.

A name is loaded when it is first asked for: one command need not pay for the others.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from crore.plan.answer import Answer, Plan
    from crore.plan.check import CHECK_VERSION, check_mission, check_record, render_check
    from crore.plan.comparison import COMPARISON_VERSION, Comparison, compare, comparison_record
    from crore.plan.explain.text import render_explained
    from crore.plan.explain.traced import Explanation, Numbers, explain_record
    from crore.plan.explain.walk import (
        EXPLANATION_VERSION,
        explain_file,
    )
    from crore.plan.fit import FIT_VERSION, FitRequest, fit_record, make_fit
    from crore.plan.mission import mission_names, read_mission
    from crore.plan.plan import make_plan
    from crore.plan.record import SCHEMA_VERSION, plan_record
    from crore.plan.request import Limits, PlanRequest
    from crore.plan.saved import Saved, read_saved
    from crore.plan.text.comparison import render_comparison
    from crore.plan.text.fit import render_fit
    from crore.plan.text.plan import render
    from crore.plan.text.validation import render_validation
    from crore.plan.validate import VALIDATION_VERSION, Validation, validate_runs, validation_record

_HOMES = {
    "Answer": "answer",
    "CHECK_VERSION": "check",
    "COMPARISON_VERSION": "comparison",
    "Comparison": "comparison",
    "EXPLANATION_VERSION": "explain.walk",
    "Explanation": "explain.traced",
    "FIT_VERSION": "fit",
    "FitRequest": "fit",
    "Limits": "request",
    "Numbers": "explain.traced",
    "Plan": "answer",
    "PlanRequest": "request",
    "SCHEMA_VERSION": "record",
    "Saved": "saved",
    "VALIDATION_VERSION": "validate",
    "Validation": "validate",
    "check_mission": "check",
    "check_record": "check",
    "compare": "comparison",
    "comparison_record": "comparison",
    "explain_file": "explain.walk",
    "explain_record": "explain.traced",
    "fit_record": "fit",
    "make_fit": "fit",
    "make_plan": "plan",
    "mission_names": "mission",
    "plan_record": "record",
    "read_mission": "mission",
    "read_saved": "saved",
    "render": "text.plan",
    "render_check": "check",
    "render_comparison": "text.comparison",
    "render_explained": "explain.text",
    "render_fit": "text.fit",
    "render_validation": "text.validation",
    "validate_runs": "validate",
    "validation_record": "validate",
}
"""Name -> the module it lives in."""

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
    "explain_file",
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


def __getattr__(name: str) -> Any:
    """Load a public name from its module; AttributeError for another."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value
