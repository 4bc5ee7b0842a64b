"""Why this plan, as text: one step in each direction, the other plans, what was searched."""

from __future__ import annotations

from textwrap import wrap

from crore.plan.answer import Answer, Plan
from crore.plan.text.pareto import letter_of, plot
from crore.plan.text.screen import Screen
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


def others(answer: Answer, screen: Screen) -> list[str]:
    """The other plans, where several were asked for; a frontier as a plot too."""
    if len(answer.plans) == 1:
        return []
    pareto = answer.request.objective == "pareto"
    title = "frontier" if pareto else "plans"
    head = f"{title:<8}{'GPUs':>8}{'days':>8}{'cost':>9}{'energy':>10}{'risk':>6}  layout"
    rows = [
        line for k, plan in enumerate(answer.plans) for line in _row(letter_of(k), plan, screen)
    ]
    return [*([*plot(answer.plans, screen), ""] if pareto else []), head, *rows]


def _row(letter: str, plan: Plan, screen: Screen) -> list[str]:
    """Return a plan's line; a layout too long for it goes on below itself."""
    it, economy = plan.layout, plan.economy
    shape = ", ".join(f"{k} {it[k]}" for k in ("tp", "cp", "ep", "pp", "dp") if it[k] > 1)
    usd = format_usd(economy.usd[1]) if economy.usd else "unknown"
    energy = format_energy(economy.energy_j) if economy.energy_j is not None else "unknown"
    before = (
        f"  {letter:<3}{format_int(plan.gpus):>11}{three_digits(plan.days.value):>8}{usd:>9}"
        f"{energy:>10}{100 * plan.risk:5.0f}%  "
    )
    layout = f"{shape or 'one rank'}, {it['zero']}, recompute {it['recompute']}"
    return wrap(before + layout, screen.columns, subsequent_indent=" " * len(before))


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
