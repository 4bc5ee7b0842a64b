"""One line of the table of explanations: what a number is, which functions and inputs make it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from crore.plan.explain.inputs import Input
from crore.plan.explain.parts import Item

Function: TypeAlias = Callable[..., Any] | property
Kind: TypeAlias = Literal["derived", "input", "choice", "counted"]
"""computed; given by the user or the catalogue; chosen by the search; counted while it ran."""
GROUPS = ("time", "throughput", "memory", "failures", "money and power", "fabric", "fleet",
          "limits", "layout", "search", "request")  # fmt: skip
STEP = "as the step time"
"""Evidence of what follows from the step time."""
CLOSED = "counted in closed form, no fitted constant"
ESTIMATE = "from estimates and published rates"


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """What is known about one number before it is asked for."""

    key: str
    group: str
    unit: str
    about: str
    """One line."""
    kind: Kind = "derived"
    evidence: str = CLOSED
    formula: str = ""
    """In Python's symbols over the names of the inputs; the tests compute it."""
    functions: tuple[Function, ...] = ()
    """What computes it; their docstrings are the formula in words."""
    inputs: tuple[str, ...] = ()
    """Words of `explain_inputs`."""
    note: str = ""
    """What else the plan says about it."""
    parts: str = ""
    """Keys under this prefix add up to the number."""
    items: Callable[[], tuple[Item, ...]] | None = None
    """Operations that add up to it; none where it returns none."""
    moved: Callable[[], tuple[Input, ...]] | None = None
    """Fitted constants and rates that move it, as tried."""
    value: float | None = None
    """Of a number the file does not hold: a step between."""
    listed: bool = True
    """Shown without being asked for."""
