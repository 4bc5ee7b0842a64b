"""The end of a run as plain text: the verdict first, then against the plan, then what next."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from crore.train import text
from crore.train.records import Prediction
from crore.train.tally import Tally
from crore.units import format_count, format_duration, format_int, three_digits

VERDICTS: Final = {
    "finished": "TRAINED", "signal": "PAUSED", "stopped": "STOPPED", "failed": "FAILED",
}  # fmt: skip


def summary(
    tally: Tally,
    wrote: Mapping[str, str] | None = None,
    then: Mapping[str, str] | None = None,
    columns: int = text.COLUMNS,
) -> str:
    """Return the end of a run as text: the verdict first, then against the plan, then what next.

    `wrote` is file -> what it holds; `then` is command -> what it does.
    """
    lines = [
        _verdict(tally), *_learned(tally), *_fared(tally),
        *(text.sample_lines(tally.sample) if tally.sample else []),
        *_listed("wrote", wrote or {}), *_listed("next", then or {}),
    ]  # fmt: skip
    return "\n".join(text.fitted(lines, columns))


def _fared(tally: Tally) -> Iterator[str]:
    """Speed and memory against the plan."""
    told = tally.start.prediction if tally.start else None
    if tally.step is not None:
        rate, share = text.rate(tally), text.share(tally.step)
        planned = text.beside(rate, told.tokens_per_s if told else None, format_count)
        yield text.labelled("speed", f"{format_count(rate)} tokens/s{planned}{share}")
        held = _interval(told, tally.pace.median_s) if told else ""
        yield text.labelled("", text.step_time(tally) + held)
    if tally.peak_bytes:
        yield text.labelled("memory", f"{text.memory(tally)}, the fullest rank")


def _verdict(tally: Tally) -> str:
    end = tally.end
    word = VERDICTS[end.reason] if end else "RUNNING"
    took = f", {format_count(end.tokens)} tokens, {format_duration(end.wall_s)}" if end else ""
    if tally.start and tally.start.step:
        took += " since it went on"
    why = f"; {text.printable(end.message)}" if end and end.message else ""
    done, steps = tally.done, tally.start.steps if tally.start else 0
    count = format_int(done) if done >= steps else f"{format_int(done)} of {format_int(steps)}"
    return f"{word}  {count} steps{took}{why}"


def _learned(tally: Tally) -> Iterator[str]:
    if not tally.evals:
        return
    first, last = tally.evals[0], tally.evals[-1]
    best = min(tally.evals, key=lambda it: it.bits_per_byte)
    start = "" if len(tally.evals) == 1 else f"{first.bits_per_byte:.3f} -> "
    told = f"validation {start}{last.bits_per_byte:.3f} bits/byte"
    if best.bits_per_byte < last.bits_per_byte:
        told += f" (best {best.bits_per_byte:.3f} after step {format_int(best.step)})"
    yield text.labelled("learned", told)


def _interval(told: Prediction, measured_s: float) -> str:
    """Say whether the plan's interval holds the step time."""
    low, high = told.step_time_low_s, told.step_time_high_s
    where = "within" if low <= measured_s <= high else "outside"
    return f", {where} its 80 % interval of {three_digits(low)} to {three_digits(high)} s"


def _listed(label: str, items: Mapping[str, str]) -> Iterator[str]:
    width = max(map(len, items), default=0)
    for n, (name, what) in enumerate(items.items()):
        yield f"{'' if n else label:<{text.LABEL}}{name:<{width}}  {what}".rstrip()
