"""An answer as text: the verdict first, then where time and memory go, then why."""

from __future__ import annotations

from collections.abc import Iterator
from textwrap import wrap
from typing import Final

from crore.plan.answer import Answer, Plan
from crore.plan.record import verdict
from crore.plan.text.bars import level, rest, rows
from crore.plan.text.screen import Screen
from crore.plan.text.takes import failures, limits, takes
from crore.plan.text.why import others, what_if, why
from crore.units import (
    format_bytes,
    format_count,
    format_duration,
    format_int,
    format_percent,
    three_digits,
)

INDENT: Final = " " * 12
PIPED: Final = Screen()
HALF_FORMATS: Final = ("bf16", "fp16", "fp32")


def render(answer: Answer, screen: Screen = PIPED) -> str:
    """Return an answer as lines no wider than the screen: the best plan, then the others."""
    plan = answer.plan
    blocks = [
        _verdict(plan), _layout(plan), _throughput(plan), _time(plan, screen),
        _memory(plan, screen), failures(plan), takes(plan), limits(plan), what_if(answer),
        others(answer, screen), why(answer),
    ]  # fmt: skip
    return "\n\n".join(
        "\n".join(_wrapped(line, screen) for line in block) for block in blocks if block
    )


def _wrapped(line: str, screen: Screen) -> str:
    """Break a line that is too long; what follows stands below its text."""
    if len(line) <= screen.columns:
        return line
    return "\n".join(wrap(line, screen.columns, subsequent_indent=INDENT, break_on_hyphens=False))


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
    runs = f"runs on     {plan.question.abilities.title}"
    return [*_fleet(plan), "layout      " + ", ".join(shown), runs]


def _fleet(plan: Plan) -> Iterator[str]:
    """Worlds and islands, where there are several."""
    if plan.worlds == 1:
        return
    each = plan.gpus // plan.worlds
    many = "s" if plan.islands > 1 else ""
    yield (
        f"fleet       {plan.islands} island{many} of {plan.worlds // plan.islands} worlds of "
        f"{format_int(each)} GPUs; worlds join every step by a quorum"
    )
    if plan.islands > 1:
        rounds = plan.rounds
        yield (
            f"            islands every {float(rounds.interval):.0f} steps with "
            f"{float(rounds.bits):.0f}-bit outer gradients, "
            f"{three_digits(float(rounds.outer_s))} s over {plan.question.wan.name}, "
            f"{_hidden(float(rounds.exposed_s))}"
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
            f"            {format_duration(plan.run_s)} with failures ({_days(days.low)} to "
            f"{_days(days.high)}, 80 %{_learning(plan)})"
        ),
    ]


def _days(days: float) -> str:
    return format_duration(days * 86_400)


def _learning(plan: Plan) -> str:
    if plan.islands == 1:
        return ""
    low, middle, high = plan.learning
    return f"; islands learn {middle:.2f} per token, {low:.2f} to {high:.2f}, extrapolated"


def _time(plan: Plan, screen: Screen) -> list[str]:
    split, total = plan.step_split_s, plan.step_time_s.value
    return ["time of a step", *rows(split, total, lambda v: f"{three_digits(v)} s", screen)]


def _memory(plan: Plan, screen: Screen) -> list[str]:
    """The whole against what the GPU has, then the waterfall: parts, and what is left."""
    capacity, used = plan.question.memory_bytes, plan.memory_bytes
    whole = f"{format_bytes(used)} of {format_bytes(capacity)}"
    return [
        "memory of the worst GPU",
        level(whole, used / capacity, screen),
        *rows(plan.memory_split_bytes, capacity, format_bytes, screen),
        rest("free", format_bytes(capacity - used), used / capacity, screen),
    ]
