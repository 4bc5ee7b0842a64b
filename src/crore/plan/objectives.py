"""Fastest, cheapest or Pareto: which GPU counts are searched, and which plans are kept."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from crore.errors import Infeasible
from crore.plan.economy import full_load_w
from crore.plan.request import PlanRequest, Question
from crore.plan.resolve import resolve
from crore.plan.search import Found, Watch, search

if TYPE_CHECKING:
    from crore.plan.plan import Plan

DAY_S: Final = 86_400.0
MARGINS: Final = (0.10, 0.25)
"""Memory margins a Pareto search tries beside the asked one: less risk for more time."""
SHORTEST_OCTAVES: Final = 10
"""Counts tried when fewer GPUs may be used: down to a thousandth of them."""


def search_objective(q: Question, watch: Watch | None = None) -> list[tuple[Question, Found]]:
    """Return what was searched: one question per GPU count and memory margin.

    A limit on GPUs or power, or an objective other than the fastest, allows fewer GPUs: whole
    servers times 2^a or 3·2^a are tried, largest first. Raises Infeasible when not one GPU is
    within the limits.
    """
    searched: list[tuple[Question, Found]] = []
    ceiling_s = (q.request.limits.days or math.inf) * DAY_S
    for question in _questions(q):
        fastest = q.request.objective == "fastest" and len(searched) > 0
        known = [it.run_s for _, found in searched for it in found.ranked]
        top = q.request.top
        within_s = sorted(known)[top - 1] if fastest and len(known) >= top else math.inf
        found = search(question, watch, ceiling_s=min(ceiling_s, within_s))
        searched.append((question, found))
        if found.interrupted:
            break
    return searched


def _questions(q: Question) -> Iterator[Question]:
    """Yield the question at every GPU count and memory margin the objective asks for."""
    limits = q.request.limits
    several = q.request.objective != "fastest" or limits.gpus or limits.power_w
    margins = (*MARGINS,) if q.request.objective == "pareto" else ()
    for count in gpu_counts(q) if several else (q.gpus,):
        asked = q if count == q.gpus else with_gpus(q, count)
        yield asked
        for margin in margins:
            if margin > limits.memory_margin:
                looser = replace(limits, memory_margin=margin)
                yield replace(asked, request=replace(asked.request, limits=looser))


def with_gpus(q: Question, count: int) -> Question:
    """Return the question on fewer GPUs; batch, tokens and stack stay what they are."""
    pins = {k: v for k, v in q.request.fix.items() if k != "global_batch"}
    asked = replace(
        q.request, gpu=q.accelerator.name, gpus=count, cluster="", stack=q.stack_name, fix=pins,
        tokens=q.tokens, seq_len=q.seq_len, global_batch=q.global_batch, global_batch_tokens=None,
        fabric=q.fabric.name if q.fabric else "", wan=q.wan.name,
        limits=replace(q.request.limits, gpus=None),
    )  # fmt: skip
    return replace(resolve(asked), cluster=q.cluster, derived=q.derived, request=q.request)


def gpu_counts(q: Question) -> list[int]:
    """Return the GPU counts within the limits, largest first; all there are, where allowed.

    Raises Infeasible when no GPU is.
    """
    most = largest_count(q)
    server = min(q.accelerator.node_size, most)
    units = {server * part * 2**k for part in (1, 3) for k in range(most.bit_length())}
    below = {1 << k for k in range(server.bit_length())} if most <= server else set()
    counts = {n for n in units | below if most >> SHORTEST_OCTAVES < n <= most}
    if most == q.gpus:
        counts.add(q.gpus)
    return sorted(counts, reverse=True)


def largest_count(q: Question) -> int:
    """Return how many GPUs the limits on GPUs and power allow."""
    limits, most = q.request.limits, q.gpus
    if limits.gpus:
        most = min(most, limits.gpus)
    if limits.power_w:
        watts = full_load_w(q)
        if watts is None:
            raise Infeasible(
                f"{q.accelerator.name} has no published board power, so a power limit cannot be "
                "kept: give its row a tdp_w (--catalog) or drop the limit"
            )
        if watts > limits.power_w:
            raise Infeasible(
                f"one {q.accelerator.name} draws {watts:,.0f} W at full load with host and "
                f"cooling, over the limit of {limits.power_w:,.0f} W"
            )
        most = min(most, int(limits.power_w / watts))
    return most


def ordered(request: PlanRequest, plans: tuple[Plan, ...]) -> tuple[Plan, ...]:
    """Return plans in the order asked for: by time, by dollars, or the Pareto frontier by time.

    Without a known price the cheapest plan is the one of fewest GPU-hours.
    """
    by_time = sorted(plans, key=lambda plan: plan.run_s)
    if request.objective == "cheapest":
        return tuple(sorted(by_time, key=dollars)[: request.top])
    if request.objective == "pareto":
        return tuple(_frontier(by_time))
    return tuple(by_time[: request.top])


def dollars(plan: Plan) -> float:
    """Return a plan's dollars, or GPU-hours where no price is known."""
    usd = plan.economy.usd
    return usd[1] if usd else plan.gpus * plan.run_s / 3600


def _burdens(plan: Plan) -> tuple[float, ...]:
    energy = plan.economy.energy_j
    return (plan.run_s, dollars(plan), energy if energy is not None else 0.0, plan.risk)


def _frontier(plans: list[Plan]) -> list[Plan]:
    """Keep the plans that no other is at least as good as in time, dollars, energy and risk."""
    kept: list[Plan] = []
    for plan in plans:
        mine = _burdens(plan)
        beaten = any(
            other is not plan and _burdens(other) != mine
            and all(a <= b for a, b in zip(_burdens(other), mine, strict=True))
            for other in plans
        )  # fmt: skip
        if not beaten and all(_burdens(other) != mine for other in kept):
            kept.append(plan)
    return kept
