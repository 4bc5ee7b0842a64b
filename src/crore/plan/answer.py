"""What a request is answered with: plans and everything each takes, in plain numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from crore.cost.evidence import Evidence
from crore.plan.candidates import Candidates
from crore.plan.economy import Economy
from crore.plan.fleet import Rounds
from crore.plan.limits import Limit
from crore.plan.network import Network
from crore.plan.request import PlanRequest, Question
from crore.plan.whatif import WhatIf


@dataclass(frozen=True, kw_only=True, slots=True)
class Span:
    """A predicted number with its 80 % interval and what stands behind it."""

    value: float
    low: float
    high: float
    evidence: Evidence


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """One plan of one question with everything it takes; plain numbers, SI units."""

    question: Question
    chosen: Candidates
    network: Network
    layout: Mapping[str, Any]
    worlds: int
    """torch.distributed worlds in all islands together."""
    islands: int
    gpus: int
    """Used; the others of the question are spares."""
    spares: int
    runs_on: tuple[str, ...]
    """Who can execute the pipeline schedule."""
    global_batch_tokens: int
    step_time_s: Span
    step_split_s: Mapping[str, float]
    memory_bytes: float
    memory_split_bytes: Mapping[str, float]
    model_flops_per_s: float
    """Per GPU, recompute left out."""
    mfu: float
    """Model FLOP/s over the dense peak of the linear layers' format."""
    mfu_half: float
    """The same over the 16-bit peak, as most papers print it."""
    hfu: float
    tokens_per_s: float
    """While it makes progress."""
    recovery: str
    goodput: float
    goodput_by_policy: Mapping[str, float]
    learning: tuple[float, float, float]
    """(low, middle, high) progress per token of islands over a run in step everywhere."""
    rounds: Rounds
    run_s: float
    """Seconds to train on all tokens, failures included."""
    days: Span
    mtbf_s: float
    economy: Economy
    risk: float
    """Chance to run out of memory or to take a quarter longer than predicted."""
    limits: tuple[Limit, ...]
    parameters: float
    active_parameters: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """The plans of a request, best first, and how they were found."""

    request: PlanRequest
    question: Question
    plans: tuple[Plan, ...]
    """One, the K best that really differ, or the Pareto frontier."""
    evaluated: int
    candidates: int
    rejected: Mapping[str, int]
    interrupted: bool
    search_cpu_s: float
    gpu_counts: tuple[int, ...]
    """GPU counts that were searched: several where fewer GPUs may be used."""
    what_if: tuple[WhatIf, ...]
    """One step in each direction from the best plan."""

    @property
    def plan(self) -> Plan:
        """The best plan."""
        return self.plans[0]

    def _repr_html_(self) -> str:
        from crore.plan.text.html import answer_html

        return answer_html(self)

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        from crore.plan.text.plan import render

        return {"text/plain": render(self), "text/html": self._repr_html_()}
