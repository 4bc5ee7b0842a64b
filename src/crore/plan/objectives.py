"""Fastest, cheapest or Pareto: which GPU counts are searched, and which plans are kept."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from crore.errors import Infeasible
from crore.plan.axes import OF_A_FLEET
from crore.plan.economy import full_load_w
from crore.plan.network import choose_network, run_on
from crore.plan.pricing import Points
from crore.plan.request import PlanRequest, Question
from crore.plan.resolve import resolve
from crore.plan.search import Found, Ground, Watch, search

if TYPE_CHECKING:
    from crore.plan.answer import Plan

MARGINS: Final = (0.10, 0.25)
"""Memory margins a Pareto search tries beside the asked one: less risk for more time."""
MOST_PRICED: Final = 1_000_000
"""Settings after which no further GPU count is searched, once a plan is known."""
SHORTEST_OCTAVES: Final = 10
"""Counts tried when fewer GPUs may be used: down to a thousandth of them."""


def search_objective(q: Question, watch: Watch | None = None) -> list[tuple[Question, Found]]:
    """Return what was searched: one question per GPU count and memory margin.

    A limit on GPUs or power, or an objective other than the fastest, allows fewer GPUs: whole
    servers times 2^a or 3·2^a are tried (2^a for a frontier). What is known of other counts bounds
    the next: a slower plan, or one of more GPU-hours, is not looked for. Raises Infeasible when not
    one GPU is within the limits.
    """
    searched: list[tuple[Question, Found]] = []
    points = Points()
    for count in _counts(q):
        asked = q if count == q.gpus else with_gpus(q, count)
        ground = Ground(asked, points)
        found = search(asked, watch, _ceiling_s(q, count, searched), ground)
        searched.append((asked, _in_time(asked, found)))
        if q.request.objective == "pareto" and found.ranked and not found.interrupted:
            searched += _roomier(asked, found, ground, watch)
        enough = sum(one.evaluated for _, one in searched) > MOST_PRICED
        if searched[-1][1].interrupted or (enough and any(one.ranked for _, one in searched)):
            break
    return searched


def _counts(q: Question) -> list[int]:
    """Return the GPU counts to search, in the order that bounds the others soonest."""
    objective, limits = q.request.objective, q.request.limits
    if objective == "fastest":
        return gpu_counts(q) if limits.gpus or limits.power_w else [q.gpus]
    # Small counts are efficient, so the cheapest is found early.
    return sorted(gpu_counts(q), reverse=objective == "pareto")


def _ceiling_s(q: Question, count: int, searched: list[tuple[Question, Found]]) -> float:
    """Return the run time beyond which a plan on `count` GPUs cannot be among the answers."""
    deadline_s = q.request.limits.deadline_s
    if q.request.objective == "pareto":
        return deadline_s
    cheapest = q.request.objective == "cheapest"
    known = sorted(
        it.run_s * (asked.gpus if cheapest else 1)
        for asked, found in searched
        for it in found.ranked
    )
    if len(known) < q.request.top:
        return deadline_s
    return min(deadline_s, known[q.request.top - 1] / (count if cheapest else 1))


def _roomier(
    q: Question, found: Found, ground: Ground, watch: Watch | None
) -> list[tuple[Question, Found]]:
    """Return searches with more memory kept free, where the best plan does not keep it anyway."""
    deadline_s = q.request.limits.deadline_s
    searched: list[tuple[Question, Found]] = []
    peak = max(it.peak_bytes for it in found.ranked)
    for margin in MARGINS:
        if margin > q.request.limits.memory_margin and peak * (1 + margin) > q.memory_bytes:
            wary = replace(q.request.limits, memory_margin=margin)
            asked = replace(q, request=replace(q.request, limits=wary))
            found = search(asked, watch, deadline_s, ground)
            searched.append((asked, _in_time(asked, found)))
    return searched


def _in_time(q: Question, found: Found) -> Found:
    """Drop what is late on the network it will run on: the search knows an ideal one."""
    deadline_s = q.request.limits.deadline_s
    if deadline_s < math.inf:
        for family, it in list(found.best.found.items()):
            if run_on(q, it.candidate, choose_network(q, it.candidate).machine) > deadline_s:
                del found.best.found[family]
    return found


def with_gpus(q: Question, count: int) -> Question:
    """Return the question on fewer GPUs; a batch the user left open is derived again."""
    open_batch = q.request.global_batch is None and q.request.global_batch_tokens is None
    keeps = not open_batch or "global_batch" in q.request.fix
    asked = replace(
        q.request, gpu=q.accelerator.name, gpus=count, cluster="", stack=q.stack_name,
        fabric=q.fabric.name if q.fabric else "", wan=q.wan.name,
        limits=replace(q.request.limits, gpus=None),
    )  # fmt: skip
    resolved = resolve(asked, q.catalog)
    batch = q.global_batch if keeps else resolved.global_batch
    derived = q.derived if keeps else resolved.derived
    return replace(
        resolved, cluster=q.cluster, derived=derived, request=q.request, global_batch=batch
    )


def gpu_counts(q: Question) -> list[int]:
    """Return the GPU counts within the limits, largest first; all there are, where allowed.

    Raises Infeasible when no GPU is.
    """
    most = largest_count(q)
    counts = round_counts(q, most)
    if q.request.objective == "pareto":
        counts = {n for n in counts if n % 3}
    counts = {n for n in counts if most >> SHORTEST_OCTAVES < n <= most}
    if most == q.gpus:
        counts.add(q.gpus)
    if pins := [f"{key}={n}" for key in OF_A_FLEET if (n := q.request.fix.get(key, 1)) != 1]:
        counts = {n for n in counts if n > q.world_limit}
        if not counts:
            raise Infeasible(
                f"--fix {pins[0]} needs more than one world of {q.world_limit:,} GPUs, "
                f"and the limits allow {most:,}"
            )
    return sorted(counts, reverse=True)


def round_counts(q: Question, most: int) -> set[int]:
    """Return GPU counts that divide well: 2^a or 3·2^a GPUs of a server, or such servers.

    The same numbers under every limit: a tighter one can only take some away.
    """
    server = q.accelerator.node_size
    steps = {part * 2**k for part in (1, 3) for k in range(most.bit_length())}
    return {n for n in steps if n < server} | {server * n for n in steps}


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
