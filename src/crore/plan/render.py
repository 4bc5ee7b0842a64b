"""An answer as text: the verdict first, then where time and memory go, then why."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Final

from crore.plan.plan import Answer, Plan
from crore.plan.record import verdict
from crore.units import (
    format_bytes,
    format_count,
    format_duration,
    format_int,
    format_percent,
    format_usd,
    three_digits,
)

BAR: Final = 24
SMALLEST: Final = 0.0005
"""Parts below this share of the whole are not worth a line."""
HALF_FORMATS: Final = ("bf16", "fp16", "fp32")


def render(answer: Answer) -> str:
    """Return an answer as lines of at most 120 columns: the best plan, then the others."""
    plan = answer.plan
    blocks = [
        _verdict(plan), _layout(plan), _throughput(plan), _time(plan), _memory(plan),
        _failures(plan), _takes(plan), _limits(plan), _what_if(answer), _others(answer), _why(answer),
    ]  # fmt: skip
    return "\n\n".join("\n".join(block) for block in blocks if block)


def _verdict(plan: Plan) -> list[str]:
    q = plan.question
    size = format_count(plan.parameters)
    if plan.active_parameters < 0.9 * plan.parameters:
        size += f" parameters, {format_count(plan.active_parameters)} active"
    else:
        size += " parameters"
    title = [q.request.title] if q.request.title else []
    network = f" on {q.fabric.name}" if q.fabric else ""
    what = (
        f"{q.model.name} ({size}) on {format_int(plan.gpus)} x {q.accelerator.name}{network}, "
        f"{q.precision}, stack {q.stack_name}"
    )
    spares = [f"{format_int(plan.spares)} GPUs are left over as spares"] if plan.spares else []
    return [verdict(plan), *title, what, *spares]


def _layout(plan: Plan) -> list[str]:
    it = plan.layout
    shown = [f"{k} {it[k]}" for k in ("tp", "cp", "ep", "etp", "pp", "vpp", "dp") if it[k] > 1]
    if it["dp_replicate"] > 1:
        shown[-1] += f" ({it['dp_replicate']} replicas x {it['dp_shard']} shards)"
    shown += [f"micro-batch {it['micro_batch']}", it["schedule"] if it["pp"] > 1 else "no pipeline"]
    again = f"recompute {it['recompute']}"
    if 0 < it["recompute_layers"] < it["stage_layers"]:
        again += f" ({it['recompute_layers']} of {it['stage_layers']} layers)"
    shown += [it["zero"], again]
    if it["sequence_parallel"]:
        shown.append("sequence parallel")
    for what in ("optimizer", "activations"):
        if it[f"offload_{what}"]:
            shown.append(f"{what} in host memory")
    return [*_fleet(plan), "layout      " + ", ".join(shown)]


def _fleet(plan: Plan) -> Iterator[str]:
    """Worlds and islands, where there are several."""
    if plan.worlds == 1:
        return
    each = plan.gpus // plan.worlds
    yield (
        f"fleet       {plan.islands} islands of {plan.worlds // plan.islands} worlds of "
        f"{format_int(each)} GPUs; worlds join every step by a quorum"
    )
    if plan.islands > 1:
        rounds = plan.rounds
        yield (
            f"            islands every {float(rounds.interval):.0f} steps with "
            f"{float(rounds.bits):.0f}-bit outer gradients, {three_digits(float(rounds.outer_s))} s "
            f"over {plan.question.wan.name}, {_hidden(float(rounds.exposed_s))}"
        )


def _hidden(exposed_s: float) -> str:
    return f"{three_digits(exposed_s)} s of it waited for" if exposed_s else "hidden"


def _throughput(plan: Plan) -> list[str]:
    q, step, days = plan.question, plan.step_time_s, plan.days
    half = "" if q.precision in HALF_FORMATS else (
        f" ({format_percent(plan.mfu_half)} of the 16-bit peak)")  # fmt: skip
    sequences = plan.global_batch_tokens // q.seq_len
    return [
        (
            f"step        {three_digits(step.value)} s ({three_digits(step.low)} to "
            f"{three_digits(step.high)}, 80 %; {step.evidence})"
        ),
        (
            f"throughput  {format_count(plan.tokens_per_s)} tokens/s, "
            f"{format_count(plan.tokens_per_s / plan.gpus)} per GPU; "
            f"{three_digits(plan.model_flops_per_s / 1e12)} TFLOP/s per GPU"
        ),
        f"            MFU {format_percent(plan.mfu)}{half}, HFU {format_percent(plan.hfu)}",
        (
            f"run         {format_count(q.tokens)} tokens at {format_int(sequences)} sequences "
            f"({format_count(plan.global_batch_tokens)} tokens) a step:"
        ),
        (
            f"            {format_duration(plan.run_s)} with failures ({three_digits(days.low)} to "
            f"{three_digits(days.high)} days, 80 %{_learning(plan)})"
        ),
    ]


def _learning(plan: Plan) -> str:
    if plan.islands == 1:
        return ""
    low, middle, high = plan.learning
    return f"; islands learn {middle:.2f} per token, {low:.2f} to {high:.2f}, extrapolated"


def _bars(parts: Mapping[str, float], total: float, show: Callable[[float], str]) -> Iterator[str]:
    for name, value in parts.items():
        if value < SMALLEST * total:
            continue
        bar = "█" * max(1, round(BAR * value / total))
        yield f"  {name:<24}{show(value):>10}  {100 * value / total:4.1f} %  {bar}"


def _time(plan: Plan) -> list[str]:
    total = plan.step_time_s.value
    return ["time of a step", *_bars(plan.step_split_s, total, lambda v: f"{three_digits(v)} s")]


def _memory(plan: Plan) -> list[str]:
    """The waterfall: parts, their sum, what is left."""
    capacity = plan.question.memory_bytes
    free = capacity - plan.memory_bytes
    return [
        "memory of the worst GPU",
        *_bars(plan.memory_split_bytes, capacity, format_bytes),
        f"  {'free':<24}{format_bytes(free):>10}  {100 * free / capacity:4.1f} %",
    ]


def _failures(plan: Plan) -> list[str]:
    """Say how often something fails, how the plan goes on, and what else would."""
    others = ", ".join(f"{name} {share:.2f}" for name, share in plan.goodput_by_policy.items())
    return [
        (
            f"failures    one every {format_duration(plan.mtbf_s)} somewhere (rate of arXiv "
            f"2407.21783); goodput {plan.goodput:.2f} by {_recovery(plan)}"
        ),
        f"            all in step: {others}",
    ]


def _recovery(plan: Plan) -> str:
    words = {"disk": "restart from disk", "peer": "restart from peers' memory"}
    if plan.recovery in words:
        return words[plan.recovery]
    return "a quorum of worlds" + (" and islands" if plan.islands > 1 else "")


def _takes(plan: Plan) -> list[str]:
    """Power, energy, dollars, network."""
    economy = plan.economy
    power = "power unknown: no board limit published"
    if economy.power_w is not None and economy.energy_j is not None:
        power = f"{_watts(economy.power_w)} at the meter, {_kwh(economy.energy_j)}"
    money = f"cost unknown: {economy.usd_basis}"
    if economy.usd and economy.usd_per_gpu_hour:
        low, value, high = (format_usd(x) for x in economy.usd)
        rate = economy.usd_per_gpu_hour[1]
        money = f"{value} ({low} to {high}; ${rate:.2f} per GPU-hour, {economy.usd_basis})"
    return [f"takes       {power}", f"            {money}", *_network(plan)]


def _network(plan: Plan) -> Iterator[str]:
    design = plan.network.design
    if design is None:
        return
    tiers = f"{design.tiers} tiers, " if design.tiers > 1 else ""
    yield (
        f"fabric      {design.topology}: {tiers}{design.planes} planes of {design.switch} switches, "
        f"taper {design.taper:g}{' in each island' if plan.islands > 1 else ''}"
    )
    price = design.price_usd
    yield (
        f"            {format_int(design.switches)} switches, {format_int(design.optic_ends)} optic "
        f"ends, {format_usd(price.value)} ({format_usd(price.low)} to {format_usd(price.high)}), "
        f"{_watts(design.power_w)}"
    )


def _watts(watts: float) -> str:
    for unit, scale in (("GW", 1e9), ("MW", 1e6), ("kW", 1e3)):
        if watts >= scale:
            return f"{three_digits(watts / scale)} {unit}"
    return f"{three_digits(watts)} W"


def _kwh(joules: float) -> str:
    hours = joules / 3.6e6
    for unit, scale in (("TWh", 1e9), ("GWh", 1e6), ("MWh", 1e3)):
        if hours >= scale:
            return f"{three_digits(hours / scale)} {unit}"
    return f"{three_digits(hours)} kWh"


def _limits(plan: Plan) -> list[str]:
    """What binds."""
    binding = [limit for limit in plan.limits if limit.binds]
    lines = [
        (
            f"{limit.name}: {format_count(limit.value)} against {format_count(limit.limit)} "
            f"{limit.unit}; {limit.note}"
        )
        for limit in binding
    ]
    shown = lines or ["none of " + ", ".join(limit.name for limit in plan.limits)]
    return [f"{'binds' if k == 0 else '':<12}{line}" for k, line in enumerate(shown)]


def _what_if(answer: Answer) -> list[str]:
    """One step in each direction, fastest first."""
    steps = [it for it in answer.what_if if it.ratio is not None]
    none = [it.step for it in answer.what_if if it.ratio is None]
    steps.sort(key=lambda it: it.run_s or 0.0)
    lines = [
        f"{'what if' if k == 0 else '':<12}{it.step:<24}{100 * ((it.ratio or 1) - 1):+6.1f} % days"
        + (f"  ({it.note})" if it.note else "")
        for k, it in enumerate(steps)
    ]
    return [*lines, f"{'':<12}does not fit or divide: {', '.join(none)}"] if none else lines


def _others(answer: Answer) -> list[str]:
    """The other plans, where several were asked for."""
    if len(answer.plans) == 1:
        return []
    lines = [f"{'others' if answer.request.objective != 'pareto' else 'frontier':<12}"
             f"{'GPUs':>10}{'days':>9}{'cost':>9}{'energy':>10}{'risk':>6}  layout"]  # fmt: skip
    return [*lines, *(_row(plan) for plan in answer.plans)]


def _row(plan: Plan) -> str:
    it, economy = plan.layout, plan.economy
    shape = ", ".join(f"{k} {it[k]}" for k in ("tp", "cp", "ep", "pp", "dp") if it[k] > 1)
    usd = format_usd(economy.usd[1]) if economy.usd else "unknown"
    energy = _kwh(economy.energy_j) if economy.energy_j is not None else "unknown"
    return (
        f"{'':<12}{format_int(plan.gpus):>10}{three_digits(plan.days.value):>9}{usd:>9}"
        f"{energy:>10}{100 * plan.risk:5.0f}%  {shape or 'one rank'}, {it['zero']}, "
        f"recompute {it['recompute']}"
    )


def _why(answer: Answer) -> list[str]:
    lines = [
        (
            f"searched    {format_int(answer.candidates)} settings, "
            f"{format_int(answer.evaluated)} priced in full, in "
            f"{three_digits(answer.search_cpu_s)} CPU s{_stopped(answer)}"
        )
    ]
    worst = sorted(answer.rejected.items(), key=lambda item: -item[1])[:4]
    lines += [f"            {format_int(count)} fell: {reason}" for reason, count in worst]
    derived = answer.plan.question.derived
    return lines + [f"{'assumed' if k == 0 else '':<12}{line}" for k, line in enumerate(derived)]


def _stopped(answer: Answer) -> str:
    return "; stopped early: the best so far" if answer.interrupted else ""
