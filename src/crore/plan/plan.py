"""From a request to plans: resolve, search, describe the winners, say how sure."""

from __future__ import annotations

import time

import numpy as np

from crore.cost import active_parameters, evidence_of, interval, parameters
from crore.cost.evidence import Evidence, calibrated_part
from crore.cost.goodput import (
    DISK,
    PEER_MEMORY,
    mean_time_between_failures_s,
    quorum_goodput,
    restart_goodput,
)
from crore.cost.layout import layers_per_stage
from crore.cost.schedules import SCHEDULES
from crore.plan.answer import Answer, Plan, Span
from crore.plan.best import Ranked, order_of
from crore.plan.candidates import Candidates
from crore.plan.economy import economy_of, risk_of, spread_of
from crore.plan.fleet import (
    ABSENT_S,
    STALL_S,
    goodput,
    learning_efficiency,
    recovery_of,
    rounds_of,
    run_s,
)
from crore.plan.infeasible import why_infeasible
from crore.plan.limits import limits_of
from crore.plan.network import choose_network
from crore.plan.objectives import ordered, search_objective
from crore.plan.pricing import price
from crore.plan.record import layout_record
from crore.plan.request import DAY_S, PlanRequest, Question
from crore.plan.resolve import resolve
from crore.plan.search import Found, Watch
from crore.plan.whatif import what_if


def make_plan(request: PlanRequest, watch: Watch | None = None) -> Answer:
    """Return the plans a request asks for.

    `watch` is called while the search goes on; Ctrl-C ends it with the best so far. Raises
    UnknownName and InputError for bad input; Infeasible when nothing fits, with the nearest miss
    and what would make it fit.
    """
    started = time.process_time()
    question = resolve(request)
    outcomes = search_objective(question, watch)
    ranked = _distinct(outcomes)
    found = [found for _, found in outcomes]
    if not ranked:
        raise why_infeasible(*max(outcomes, key=lambda outcome: outcome[0].gpus))
    cpu_s = time.process_time() - started
    priced = sum(f.evaluated for f in found)
    plans = ordered(request, tuple(describe(q, it) for q, it in ranked))
    best = plans[0]
    return Answer(
        request=request, question=question, plans=plans,
        evaluated=priced, candidates=sum(f.candidates for f in found),
        rejected=_together(found), interrupted=any(f.interrupted for f in found),
        search_cpu_s=cpu_s,
        gpu_counts=tuple(sorted({q.gpus for q, _ in outcomes})),
        what_if=what_if(best.question, best.chosen, best.run_s, best.network.machine, priced),
    )  # fmt: skip


def _distinct(outcomes: list[tuple[Question, Found]]) -> list[tuple[Question, Ranked]]:
    """Return what was found, each candidate once: what keeps much free is found with less, too."""
    found = {
        (q.gpus, *order_of(it)): (q, it)
        for q, one in reversed(outcomes) for it in reversed(one.ranked)
    }  # fmt: skip
    return list(found.values())[::-1]


def _together(found: list[Found]) -> dict[str, int]:
    rejected: dict[str, int] = {}
    for one in found:
        for reason, count in one.rejected.items():
            rejected[reason] = rejected.get(reason, 0) + count
    return rejected


def describe(q: Question, it: Ranked) -> Plan:
    """Return everything about one candidate, priced on the network it will run on."""
    chosen = it.candidate
    network = choose_network(q, chosen)
    job, priced, held = price(q, chosen, network.machine)
    low_s, high_s = (float(x) for x in interval(job, priced, calibrated_part(q.accelerator.name)))
    step_s, gpus = float(priced.step_s), float(chosen.layout.gpus * chosen.islands)
    rounds = rounds_of(q, chosen, np.asarray(step_s))
    round_s = float(rounds.interval) * step_s + float(rounds.exposed_s)
    useful = float(np.asarray(goodput(q, chosen, np.asarray(round_s))))
    learning = spread_of(learning_efficiency(q, chosen.islands))
    schedule = SCHEDULES[int(float(chosen.layout.schedule))]
    evidence = _evidence(q, gpus, schedule.name)
    batch_tokens = float(chosen.batch * chosen.islands) * q.seq_len
    whole_s = float(run_s(q, chosen, np.asarray(step_s)))
    per_step = {name: float(np.asarray(value)) for name, value in priced.parts.items()}
    mtbf_s = float(mean_time_between_failures_s(gpus))
    rate = float(priced.model_flops) / step_s
    linear = float(job.machine.linear_peak)
    peak = float(held.peak_bytes)
    return Plan(
        question=q, chosen=chosen, network=network,
        layout=layout_record(q, chosen, float(layers_per_stage(chosen.layout, q.shape.layers))),
        worlds=int(chosen.worlds * chosen.islands), islands=int(chosen.islands), gpus=int(gpus),
        spares=q.gpus - int(gpus), runs_on=schedule.runs_on,
        global_batch_tokens=int(batch_tokens),
        step_time_s=Span(value=step_s, low=low_s, high=high_s, evidence=evidence),
        step_split_s=per_step, memory_bytes=peak,
        memory_split_bytes={k: float(np.asarray(v)) for k, v in held.parts.items()},
        model_flops_per_s=rate, mfu=rate / linear, mfu_half=rate / float(job.machine.half_peak),
        hfu=float(priced.hardware_flops) / step_s / linear, tokens_per_s=batch_tokens / step_s,
        recovery=recovery_of(q), goodput=useful, goodput_by_policy=_policies(chosen),
        learning=learning, rounds=rounds, run_s=whole_s,
        days=Span(
            value=whole_s / DAY_S, low=whole_s / DAY_S * low_s / step_s * learning[1] / learning[2],
            high=whole_s / DAY_S * high_s / step_s * learning[1] / learning[0], evidence=evidence,
        ),
        mtbf_s=mtbf_s, economy=economy_of(q, gpus, per_step, whole_s),
        risk=risk_of(q, peak, low_s, high_s),
        limits=limits_of(q, chosen, network.machine, step_s, peak, mtbf_s, rounds),
        parameters=float(parameters(q.shape)), active_parameters=float(active_parameters(q.shape)),
    )  # fmt: skip


def _evidence(q: Question, gpus: float, schedule: str) -> Evidence:
    """Return what stands behind a step time: measured here where the process count was."""
    measured = q.accelerator.measured
    if measured is not None:
        return "extrapolated" if measured.crowding > 1 else "measured"
    return evidence_of(q.accelerator.name, gpus, q.precision, schedule, float(q.seq_len))


def _policies(chosen: Candidates) -> dict[str, float]:
    """Goodput of every way to survive a failure, were all GPUs in step."""
    gpus = float(chosen.layout.gpus * chosen.islands)
    world = float(chosen.layout.gpus / chosen.worlds)
    return {
        "restart from disk": float(restart_goodput(gpus, *DISK)),
        "restart from peers' memory": float(restart_goodput(gpus, *PEER_MEMORY)),
        "quorum of worlds": float(quorum_goodput(gpus, world, STALL_S, ABSENT_S)),
    }
