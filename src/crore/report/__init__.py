"""One self-contained page of a plan, a mission or a run; and the planner in the browser."""

from crore.report.html import page
from crore.report.markdown import markdown
from crore.report.replay import differences, read_report
from crore.report.sheet import REPORT_VERSION, sheet_of
from crore.report.sweeping import SWEEP_VERSION, read_sweep, sweep_record

__all__ = [
    "REPORT_VERSION", "SWEEP_VERSION", "differences", "markdown", "page", "read_report",
    "read_sweep", "sheet_of", "sweep_record",
]  # fmt: skip
