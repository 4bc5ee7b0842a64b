"""A run's records and its summary as plain text: lines behind a label, which `fitted` breaks."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from textwrap import TextWrapper
from typing import Final

from crore.train.meters import against, signed_percent
from crore.train.records import Checkpoint, Eval, Event, Prediction, Sample, Start, Step
from crore.train.tally import Tally
from crore.units import (
    format_bytes,
    format_count,
    format_duration,
    format_int,
    format_percent,
    three_digits,
)

COLUMNS: Final = 120
LABEL: Final = 12
SAMPLE_LINES: Final = 8
"""Own lines of a sample that are shown."""
SAMPLE_CHARS: Final = 600
"""Characters of a sample that are shown."""


def start_lines(start: Start) -> list[str]:
    """Return what is said first: what trains on what, and what the plan predicts."""
    split = ", ".join(f"{k} {v}" for k, v in start.layout.items() if _is_split(k, v))
    what = (
        f"{start.model} ({format_count(start.parameters)} parameters) on "
        f"{_ranks(start)}, {start.dtype}; {split or 'not split'}; "
        f"{format_int(start.steps)} steps"
    )
    if start.step:
        what += f", goes on after step {format_int(start.step)}"
    planned = [labelled("plan", _planned(start.prediction))] if start.prediction else []
    return [labelled("train", what), *planned]


def _ranks(start: Start) -> str:
    return f"{start.device}" if start.world_size == 1 else f"{start.world_size} x {start.device}"


def _is_split(key: str, value: object) -> bool:
    """Return whether a key of a layout says that something is split."""
    axes = ("pp", "vpp", "dp_replicate", "dp_shard", "cp", "tp", "ep", "etp")
    return key in axes and isinstance(value, int) and value > 1


def _planned(it: Prediction) -> str:
    return (
        f"step {three_digits(it.step_time_s)} s ({three_digits(it.step_time_low_s)} to "
        f"{three_digits(it.step_time_high_s)}, 80 %; {it.evidence}), "
        f"{format_count(it.tokens_per_s)} tokens/s, {format_bytes(it.memory_bytes)} per rank"
    )


def step_line(tally: Tally) -> str:
    """Return where a run is and how fast it goes, in one line; empty before the first step."""
    if tally.step is None:
        return ""
    parts = [f"{position(tally):<16}", learning(tally), speed(tally), left(tally), crew(tally)]
    return "  ".join(part for part in parts if part)


def position(tally: Tally) -> str:
    """Return steps done of all: `step 250/1,000`."""
    steps = tally.start.steps if tally.start else tally.done
    return f"step {format_int(tally.done)}/{format_int(steps)}"


def learning(tally: Tally) -> str:
    """Return the last step's loss, and its bits per byte where known."""
    if tally.step is None:
        return ""
    bits = tally.step.bits_per_byte
    rate = "" if bits is None else f"  {bits:.3f} bits/byte"
    return f"loss {tally.step.loss:.3f}{rate}"


def speed(tally: Tally) -> str:
    """Return tokens per second, MFU where known, and the step time against the plan's."""
    step = tally.step
    if step is None:
        return ""
    return f"{format_count(rate(tally))} tokens/s{share(step)}  {step_time(tally)}"


def share(step: Step) -> str:
    """Return a step's MFU behind two spaces; empty where the peak is unknown."""
    return "" if step.mfu is None else f"  MFU {format_percent(step.mfu)}"


def rate(tally: Tally) -> float:
    """Return tokens per second at the pace that is shown."""
    assert tally.step is not None
    return tally.step.tokens / tally.pace.median_s if tally.pace.median_s else 0.0


def step_time(tally: Tally) -> str:
    """Return the step time and the plan's: `step 0.410 s (plan 0.390 s, +5.1 %)`."""
    measured = tally.pace.median_s
    told = tally.start.prediction if tally.start else None
    planned = beside(measured, told.step_time_s if told else None, _seconds)
    return f"{_seconds(measured)} a step{planned}"


def _seconds(value_s: float) -> str:
    return f"{three_digits(value_s)} s"


def memory(tally: Tally) -> str:
    """Return the peak and the plan's; the whole process is not held against it."""
    start = tally.start
    if start is not None and start.memory_kind == "resident":
        return f"{format_bytes(tally.peak_bytes)} with Python and its libraries"
    told = start.prediction if start else None
    planned = beside(tally.peak_bytes, told.memory_bytes if told else None, format_bytes)
    return f"{format_bytes(tally.peak_bytes)}{planned}"


def beside(measured: float, predicted: float | None, show: Callable[[float], str]) -> str:
    """Return a prediction in brackets, and how far the measurement is above; empty without one."""
    if not predicted:
        return ""
    return f" (plan {show(predicted)}, {signed_percent(against(measured, predicted))})"


def left(tally: Tally) -> str:
    """Return the time left at this pace; empty where it is unknown or over."""
    eta_s = tally.pace.eta_s(tally.steps_left)
    return f"{format_duration(eta_s)} left" if eta_s else ""


def crew(tally: Tally) -> str:
    """Return a fleet's worlds: how many are there, left and came back; empty for one world."""
    it = tally.crew
    if not it.there:
        return ""
    fared = f" ({it.lost} lost, {it.back} back, stalled {format_duration(it.stalled_s)})"
    return f"worlds {it.there}{fared if it.lost or it.back else ''}"


def status_lines(tally: Tally) -> list[str]:
    """Return the lines below the bar: learning, speed, memory; none before the first step."""
    if tally.step is None:
        return []
    last = tally.evals[-1] if tally.evals else None
    seen = f" (validation {last.bits_per_byte:.3f})" if last else ""
    saved = f"checkpoint of step {format_int(tally.checkpoint.step)}" if tally.checkpoint else ""
    rows = [
        [learning(tally) + seen, f"gradient {tally.step.grad_norm:.3g}", f"lr {tally.step.lr:.3g}"],
        [speed(tally), crew(tally)],
        [f"memory {memory(tally)}", saved],
    ]
    return ["  ".join(part for part in row if part) for row in rows]


def eval_lines(it: Eval) -> list[str]:
    """Return an evaluation as a line."""
    what = f"{it.bits_per_byte:.3f} bits/byte, loss {it.loss:.3f}"
    return [labelled("validation", f"step {format_int(it.step)}: {what}")]


def checkpoint_lines(it: Checkpoint) -> list[str]:
    """Return a checkpoint as a line."""
    what = (
        f"step {format_int(it.step)}: {format_bytes(it.bytes)} in {format_duration(it.write_s)}, "
        f"training waited {format_duration(it.blocked_s)}"
    )
    return [labelled("checkpoint", what)]


def event_lines(it: Event) -> list[str]:
    """Return an event as a line."""
    return [labelled(it.what, f"step {format_int(it.step)}: {printable(it.message)}")]


def sample_lines(it: Sample) -> list[str]:
    """Return what a model wrote as up to `SAMPLE_LINES` lines, its own lines kept."""
    whole = printable(it.prompt + it.text).strip("\n").expandtabs(4)
    cut = whole[:SAMPLE_CHARS].split("\n")[:SAMPLE_LINES]
    lines = [*cut, "…"] if len("\n".join(cut)) < len(whole) else cut
    return [f"{'' if n else 'sample':<{LABEL}}{line}".rstrip() for n, line in enumerate(lines)]


def labelled(label: str, text: str) -> str:
    """Return a text behind a label in the first column."""
    return f"{label:<{LABEL}}{text}" if len(label) < LABEL else f"{label}  {text}"


def fitted(lines: Iterable[str], columns: int = COLUMNS) -> list[str]:
    """Break lines that are longer than a screen is wide; what follows stands below the text."""
    width = max(columns, 2 * LABEL)
    breaking = TextWrapper(width, subsequent_indent=" " * LABEL, replace_whitespace=False)
    return [part for line in lines for part in breaking.wrap(line) or [""]]


def printable(text: str) -> str:
    """Return text without what moves a terminal's cursor or changes its colours."""
    return "".join(c if c.isprintable() or c in "\n\t" else "\ufffd" for c in text)
