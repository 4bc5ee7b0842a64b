"""A number of a plan or a fit walked back to formula, constants and sources."""

from crore.plan.explain.text import render_explained
from crore.plan.explain.traced import explain_record
from crore.plan.explain.walk import explain_file

__all__ = ["explain_file", "explain_record", "render_explained"]
