"""Answers as text and as HTML, a file each: what the commands print."""

from crore.plan.text.plan import render

__all__ = ["render"]
