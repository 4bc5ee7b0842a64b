"""One step of a plan: its pipeline played pass by pass, its fleet on a network with dead parts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from crore.cost import Job, fitted_constants, operations
from crore.cost.fabric import FabricDesign
from crore.cost.operations import Operation
from crore.cost.step_messages import group_of
from crore.io import Record
from crore.plan.answer import Plan
from crore.plan.candidates import compact
from crore.plan.explain.again import case_of
from crore.plan.pricing import job_for
from crore.simulate.fabric import FleetStep, FleetStepResult, Frailty, fleet_step
from crore.simulate.failures import Run
from crore.simulate.schedules import Timeline, plan_timeline

TREES: Final = ("clos", "rail-only")
"""Topologies that are a tree under spraying, which `fleet_step` draws."""
DATA: Final = ("dp_shard", "dp_replicate")


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """What events say of one step."""

    timeline: Timeline
    fleet: FleetStepResult | None
    """On the network chosen for the plan; None where it has none, or one that is no tree."""


def step_of(body: Record, run: Run, seed: int) -> Step:
    """Return the step of a plan's record; every component of its fleet drawn by the seed.

    GPUs are slow as often, as much and until evicted as in `run`.

    Raises InputError for a record that holds no whole plan.
    """
    plan = case_of(body, "the plan", 0).plan
    spec = fleet_of(plan, run)
    return Step(
        timeline=plan_timeline(plan), fleet=None if spec is None else fleet_step(spec, seed)
    )


def fleet_of(plan: Plan, run: Run) -> FleetStep | None:
    """Return a plan's fleet as plain numbers, or None without a network of tiers.

    What GPUs send over the network is the reduction of gradients and the gathers of weights, once a
    step: among the ranks of a world and, where islands have several worlds, among these.
    """
    design = plan.network.design
    if design is None or design.topology not in TREES:
        return None
    job = job_for(plan.question, compact(plan.chosen), plan.network.machine)
    nic, copies = float(job.machine.nic_bytes_per_s), max(plan.worlds // plan.islands, 1)
    sent = [_sent(job, op, copies) for op in operations(job) if _shares(op)]
    world_bytes, island_bytes = (sum(it[k] for it in sent) for k in (0, 1))
    share = min((it[2] for it in sent if it[0] + it[1]), default=1.0)
    network_s = (world_bytes + island_bytes) / (nic * share)
    # What the planner cannot hide and no network explains is messages inside a domain.
    exposed_s = min(plan.step_split_s["dp"], network_s)
    under_leaf, uplinks = _leaf(design)
    taper = uplinks / under_leaf if uplinks else design.taper  # as whole links have it
    return FleetStep(
        islands=plan.islands, worlds=plan.worlds, world_gpus=plan.gpus // plan.worlds,
        domain_gpus=max(int(job.machine.domain_size), 1),
        compute_s=plan.step_time_s.value - exposed_s - plan.step_split_s["stragglers"],
        world_bytes=world_bytes, island_bytes=island_bytes,
        hidden_s=network_s - exposed_s,
        nic_bytes_per_s=nic, planes=design.planes, leaf_gpus=under_leaf, uplinks=uplinks,
        rails=design.rails, leaving=min(taper / share, 1.0), frailty=_frailty(run),
    )  # fmt: skip


def _frailty(run: Run) -> Frailty:
    slow = run.straggling
    share = run.hazard * slow.per_gpu_s * slow.evict_s
    return Frailty(straggler_share=min(share, 1.0), straggler_slowdown=slow.slowdown)


def _shares(op: Operation) -> bool:
    """Return whether an operation is a message among replicas once a step."""
    return op.kind == "collective" and op.repeat == "step" and op.axis in DATA


def _sent(job: Job, op: Operation, copies: int) -> tuple[float, float, float]:
    """Return bytes a GPU sends over the network inside its world, and to others of `copies` worlds.

    In a ring of n ranks the k that share a scale-up domain send `(n-1)/n` of a buffer together, an
    all-reduce twice (`cost.collectives`); none where all are in one domain. Worlds part replicas
    first. And the share of its adapter that the network's taper leaves such a ring.
    """
    constants = fitted_constants()
    group = group_of(job, op.axis, constants, op.expert)
    ranks, inner = float(group.ranks), float(group.inner)
    share = float(group.outer_bytes_per_s) / float(
        job.machine.nic_bytes_per_s * constants.nic_share
    )
    replicas = float(group_of(job, "dp_replicate", constants, op.expert).ranks)
    apart = min(copies, replicas) if op.axis == "dp_replicate" else max(copies / replicas, 1.0)
    near = max(ranks / apart, 1.0)
    passes = 2.0 if op.collective == "all_reduce" else 1.0
    scale = job.machine.element_scale
    buffer = passes * float(np.asarray(op.message_bytes * op.count * scale))
    inside = buffer * (near - 1) / near / inner if near > inner else 0.0
    return inside, buffer / near * (apart - 1) / apart if ranks > inner else 0.0, share


def _leaf(design: FabricDesign) -> tuple[int, int]:
    """Return (GPUs under a leaf, its uplinks in one plane)."""
    if design.tiers == 1:
        return design.radix, 0
    under = int(design.radix / (1 + design.taper))
    return under, max(round(under * design.taper), 1)
