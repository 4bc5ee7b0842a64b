"""Why this plan, as text: one step in each direction, the other plans, what was searched."""

from __future__ import annotations

from crore.plan.answer import Answer, Plan
from crore.units import format_energy, format_int, format_usd, three_digits


def what_if(answer: Answer) -> list[str]:
    """One step in each direction, fastest first."""
    steps = [it for it in answer.what_if if it.ratio is not None]
    none = [it.step for it in answer.what_if if it.ratio is None]
    steps.sort(key=lambda it: it.run_s or 0.0)
    lines = [
        f"{'what if' if k == 0 else '':<12}{it.step:<24}{100 * ((it.ratio or 1) - 1):+6.1f} % days"
        + (f"  ({it.note})" if it.note else "")
        for k, it in enumerate(steps)
    ]
    return [*lines, f"{'':<12}unfit or twice as long: {', '.join(none)}"] if none else lines


def others(answer: Answer) -> list[str]:
    """The other plans, where several were asked for."""
    if len(answer.plans) == 1:
        return []
    title = "frontier" if answer.request.objective == "pareto" else "plans"
    head = f"{title:<12}{'GPUs':>10}{'days':>9}{'cost':>9}{'energy':>10}{'risk':>6}  layout"
    return [head, *(_row(plan) for plan in answer.plans)]


def _row(plan: Plan) -> str:
    it, economy = plan.layout, plan.economy
    shape = ", ".join(f"{k} {it[k]}" for k in ("tp", "cp", "ep", "pp", "dp") if it[k] > 1)
    usd = format_usd(economy.usd[1]) if economy.usd else "unknown"
    energy = format_energy(economy.energy_j) if economy.energy_j is not None else "unknown"
    return (
        f"{'':<12}{format_int(plan.gpus):>10}{three_digits(plan.days.value):>9}{usd:>9}"
        f"{energy:>10}{100 * plan.risk:5.0f}%  {shape or 'one rank'}, {it['zero']}, "
        f"recompute {it['recompute']}"
    )


def why(answer: Answer) -> list[str]:
    """What was searched, why the rest fell, and what was assumed."""
    lines = [
        (
            f"searched    {format_int(answer.candidates)} settings, "
            f"{format_int(answer.evaluated)} priced in full, in "
            f"{three_digits(answer.search_cpu_s)} CPU s{_where(answer)}{_stopped(answer)}"
        )
    ]
    worst = sorted(answer.rejected.items(), key=lambda item: -item[1])[:4]
    lines += [f"            {format_int(count)} fell: {reason}" for reason, count in worst]
    derived = answer.plan.question.derived
    return lines + [f"{'assumed' if k == 0 else '':<12}{line}" for k, line in enumerate(derived)]


def _stopped(answer: Answer) -> str:
    return "; stopped early: the best so far" if answer.interrupted else ""


def _where(answer: Answer) -> str:
    """Say at which GPU counts, where there were several."""
    counts = answer.gpu_counts
    if len(counts) == 1:
        return ""
    return f"; at {len(counts)} GPU counts from {format_int(counts[0])} to {format_int(counts[-1])}"
