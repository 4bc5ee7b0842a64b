"""A number of a plan walked back to formula, constants and sources."""

from crore.plan.explain.text import render_explained
from crore.plan.explain.walk import explain_plan, explain_record

__all__ = ["explain_plan", "explain_record", "render_explained"]
