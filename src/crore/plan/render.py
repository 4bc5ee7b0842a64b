"""A plan as text: the verdict first, then where time and memory go, then why."""

from __future__ import annotations

from collections.abc import Mapping

from crore.plan.plan import Plan
from crore.units import (
    format_bytes,
    format_count,
    format_duration,
    format_int,
    format_percent,
    three_digits,
)

BAR = 24
SMALLEST = 0.0005
"""Parts below this share of the whole are not worth a line."""
LOW_GOODPUT = 0.5


def render(plan: Plan) -> str:
    """Return the plan as lines of at most 120 columns."""
    blocks = [_verdict(plan), _layout(plan), _throughput(plan), _time(plan), _memory(plan)]
    blocks += [_failures(plan), _why(plan)]
    return "\n\n".join("\n".join(block) for block in blocks if block)


def _verdict(plan: Plan) -> list[str]:
    q = plan.question
    memory = f"{format_bytes(plan.memory_bytes)} of {format_bytes(plan.memory_capacity_bytes)}"
    tight = " (tight)" if plan.tight else ""
    low, high = three_digits(plan.step_time_low_s), three_digits(plan.step_time_high_s)
    head = (
        f"FITS  {memory} per GPU{tight}; step {three_digits(plan.step_time_s)} s "
        f"({low} to {high}, 80 %); {plan.evidence}"
    )
    size = format_count(plan.parameters)
    if plan.active_parameters < 0.9 * plan.parameters:
        size += f" parameters, {format_count(plan.active_parameters)} active"
    else:
        size += " parameters"
    title = [q.request.title] if q.request.title else []
    network = f" on {q.fabric.name}" if q.fabric else ""
    what = (
        f"{q.model.name} ({size}) on {format_int(q.gpus)} x {q.accelerator.name}{network}, "
        f"{q.precision}, {q.request.stack}"
    )
    return [head, *title, what]


def _layout(plan: Plan) -> list[str]:
    it = plan.layout
    shown = [f"{k} {it[k]}" for k in ("tp", "cp", "ep", "etp", "pp", "vpp", "dp") if it[k] > 1]
    if it["dp_replicate"] > 1:
        shown[-1] += f" ({it['dp_replicate']} replicas x {it['dp_shard']} shards)"
    shown += [f"micro-batch {it['micro_batch']}", it["schedule"] if it["pp"] > 1 else "no pipeline"]
    shown += [it["zero"], f"recompute {it['recompute']}"]
    if it["sequence_parallel"]:
        shown.append("sequence parallel")
    for what in ("optimizer", "activations"):
        if it[f"offload_{what}"]:
            shown.append(f"{what} in host memory")
    return ["layout      " + ", ".join(shown)]


def _throughput(plan: Plan) -> list[str]:
    q = plan.question
    half = f" ({format_percent(plan.mfu_half)} of the 16-bit peak)" if q.precision not in (
        "bf16", "fp16", "fp32") else ""  # fmt: skip
    batch = q.global_batch * q.seq_len
    scale = plan.run_s / plan.step_time_s
    low = format_duration(plan.step_time_low_s * scale)
    high = format_duration(plan.step_time_high_s * scale)
    return [
        (
            f"throughput  {format_count(plan.tokens_per_s)} tokens/s, "
            f"{format_count(plan.tokens_per_s / q.gpus)} per GPU; "
            f"{three_digits(plan.model_flops_per_s / 1e12)} TFLOP/s per GPU"
        ),
        f"            MFU {format_percent(plan.mfu)}{half}, HFU {format_percent(plan.hfu)}",
        (
            f"run         {format_count(q.tokens)} tokens at {format_int(q.global_batch)} "
            f"sequences ({format_count(batch)} tokens) a step:"
        ),
        f"            {format_duration(plan.run_s)} without failures ({low} to {high}, 80 %)",
    ]


def _bars(parts: Mapping[str, float], total: float, show: object) -> list[str]:
    lines = []
    for name, value in parts.items():
        if value < SMALLEST * total:
            continue
        bar = "█" * max(1, round(BAR * value / total))
        shown = show(value)  # type: ignore[operator]
        lines.append(f"  {name:<24}{shown:>10}  {100 * value / total:4.1f} %  {bar}")
    return lines


def _time(plan: Plan) -> list[str]:
    total = plan.step_time_s
    return ["time of a step", *_bars(plan.step_parts_s, total, lambda v: f"{three_digits(v)} s")]


def _memory(plan: Plan) -> list[str]:
    """The waterfall: parts, their sum, what is left."""
    capacity = plan.memory_capacity_bytes
    lines = _bars(plan.memory_parts_bytes, capacity, format_bytes)
    free = capacity - plan.memory_bytes
    lines.append(f"  {'free':<24}{format_bytes(free):>10}  {100 * free / capacity:4.1f} %")
    return ["memory of the worst GPU", *lines]


def _failures(plan: Plan) -> list[str]:
    """Say what failures do to a world that restarts as one."""
    mtbf, step = plan.mtbf_s, plan.step_time_s
    head = f"failures    one every {format_duration(mtbf)} somewhere (rate of arXiv 2407.21783)"
    rate = (
        f"            restarting as one, goodput is {plan.goodput_disk:.2f} from disk, "
        f"{plan.goodput_peer:.2f} from peers' memory"
    )
    if plan.goodput_disk >= LOW_GOODPUT:
        days = format_duration(plan.run_s / plan.goodput_disk)
        return [head, rate, f"            the run then takes {days} from disk"]
    return [
        head + f", {mtbf / step:.1f} steps apart",
        rate,
        "            one synchronous world does not work at this size: plan islands of worlds",
    ]


def _why(plan: Plan) -> list[str]:
    lines = [
        (
            f"searched    {format_int(plan.candidates)} combinations; "
            f"{format_int(plan.priced)} obey the rules and were priced"
        )
    ]
    worst = sorted(plan.rejected.items(), key=lambda item: -item[1])[:4]
    lines += [f"            {format_int(count)} fell: {reason}" for reason, count in worst]
    lines += [f"assumed     {line}" for line in plan.question.derived[:1]]
    lines += [f"            {line}" for line in plan.question.derived[1:]]
    return lines
