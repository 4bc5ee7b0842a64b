"""What changes from step to step: the learning rate's factor and the global batch.

Everything is a pure function of the step, counted from 0, so a resumed run needs no other state.
Where islands make up for samples that were lost, a step is what its samples are worth: not always
a whole number.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, Literal

from crore.errors import InputError, UnknownName, shown
from crore.units import parse_count

Kind = Literal["cosine", "wsd"]
Decay = Literal["linear", "1-sqrt"]

SCHEDULES: Final = ("cosine", "wsd", "wsd-linear")
"""What `parse_schedule` reads."""
WARMUP_SHARE, WARMUP_MAX_STEPS = 0.05, 2000
"""Warm-up unless said: this share of the run, at most so many steps (2,000 as Llama 2's)."""
DECAY_SHARE = 0.2
"""Of a WSD run, its decay: 10-20 % is where longer stops helping (arXiv 2405.18392)."""
COSINE_FLOOR = 0.1
"""A cosine ends at a tenth of its peak (arXiv 2203.15556); a WSD run ends at 0 (2405.18392)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Schedule:
    """The learning rate over a run, as a factor of its peak: rise, stay (WSD only), fall."""

    kind: Kind
    """`cosine` falls from the end of the warm-up; `wsd` stays at the peak, then falls."""
    steps: int
    """Optimizer steps of the whole run."""
    warmup_steps: int = 0
    """Steps of the linear rise."""
    decay_steps: int = 0
    """Steps of a WSD run's fall; a cosine takes all that is left after the warm-up."""
    decay: Decay = "1-sqrt"
    """Shape of a WSD run's fall."""
    floor: float = 0.0
    """Factor at the end of the run, 0 to 1."""

    def __post_init__(self) -> None:
        """Raise `InputError` for parts longer than the whole."""
        used = self.warmup_steps + self.decay_steps
        if min(self.steps, self.warmup_steps, self.decay_steps) < 0 or used > self.steps:
            raise InputError(
                f"warm-up ({self.warmup_steps} steps) and decay ({self.decay_steps}) must fit in "
                f"the run ({self.steps}): shorten them or train for more steps"
            )
        if not 0 <= self.floor <= 1:
            raise InputError(f"the learning rate's floor must be from 0 to 1, not {self.floor}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Ramp:
    """The global batch over a run."""

    stages: tuple[tuple[int, int], ...]
    """(sample from which it holds, sequences per step), samples rising from 0. A stage begins
    with the first step that starts at its sample or later."""
    unit: int = 1
    """Sequences that every batch is a multiple of: data-parallel ranks x micro-batch."""

    def __post_init__(self) -> None:
        """Raise `InputError` for stages out of order and batches that do not divide."""
        starts = [start for start, _ in self.stages]
        if starts[:1] != [0] or any(a >= b for a, b in pairwise(starts)):
            raise InputError(f"a batch ramp's samples must rise from 0, not {shown(starts)}")
        for _, size in self.stages:
            if size < 1 or size % self.unit:
                raise InputError(
                    f"a global batch of {size} sequences is no multiple of {self.unit} "
                    "(data-parallel ranks x micro-batch): change the batch, or its ramp"
                )


def factor(schedule: Schedule, step: float) -> float:
    """Return the learning rate of one step as a factor of its peak, 0 to 1.

    The rise is never 0, and the fall reaches the floor at `schedule.steps`, after the last step:
    no step is wasted at 0. From there on it is the floor.
    """
    if step < schedule.warmup_steps:
        return (step + 1) / (schedule.warmup_steps + 1)
    wsd = schedule.kind == "wsd"
    length = schedule.decay_steps if wsd else schedule.steps - schedule.warmup_steps
    left = schedule.steps - step
    if left <= 0:
        return schedule.floor
    fallen = 1 - min(left / length, 1.0) if length else 0.0
    return schedule.floor + (1 - schedule.floor) * _height(schedule, fallen)


def _height(schedule: Schedule, fallen: float) -> float:
    """Return how high a fall from 1 to 0 still is after a share `fallen` of its steps."""
    if schedule.kind == "cosine":
        return (1 + math.cos(math.pi * fallen)) / 2
    return 1 - (fallen if schedule.decay == "linear" else math.sqrt(fallen))


def parse_schedule(
    text: str, steps: int, *, warmup_steps: int | None = None, floor: float | None = None
) -> Schedule:
    """Return the schedule of a name in `SCHEDULES` for a run of `steps`, with the usual shares.

    Raises `UnknownName`, and `InputError` for a warm-up that does not fit.
    """
    if text not in SCHEDULES:
        raise UnknownName("learning-rate schedule", text, SCHEDULES)
    usual = min(math.ceil(WARMUP_SHARE * steps), WARMUP_MAX_STEPS, steps)
    warmup = usual if warmup_steps is None else warmup_steps
    usual_floor = COSINE_FLOOR if text == "cosine" else 0.0
    return Schedule(
        kind="cosine" if text == "cosine" else "wsd",
        steps=steps,
        warmup_steps=warmup,
        decay_steps=0
        if text == "cosine"
        else max(0, min(round(DECAY_SHARE * steps), steps - warmup)),
        decay="linear" if text == "wsd-linear" else "1-sqrt",
        floor=usual_floor if floor is None else floor,
    )


def parse_ramp(text: str, batch: int, unit: int = 1) -> Ramp:
    """Return the ramp up to `batch` sequences that `text` gives as `start:increment:samples`.

    The batch grows from `start` by `increment` in stages of equal samples, and is whole after
    `samples`, as Megatron-LM's `--rampup-batch-size`. No text is no ramp. Raises `InputError`.
    """
    if not text:
        return Ramp(stages=((0, batch),), unit=unit)
    parts = text.split(":")
    if len(parts) != 3:
        raise InputError(
            f"a batch ramp is start:increment:samples, such as 16:16:1M, not {shown(text)}"
        )
    names = ("start", "increment", "samples")
    start, increment, samples = (
        parse_count(p, f"ramp {n}") for p, n in zip(parts, names, strict=True)
    )
    if start > batch or (batch - start) % increment or samples * increment < batch - start:
        raise InputError(
            f"a batch ramp must go from its start to {batch} in whole increments, each for one "
            f"sample or more, not {shown(text)}"
        )
    grow = (batch - start) // increment
    stages = [(samples * k // grow, start + k * increment) for k in range(grow)]
    return Ramp(stages=(*stages, (samples if grow else 0, batch)), unit=unit)


def batch(ramp: Ramp, step: float) -> int:
    """Return the sequences of one step's global batch."""
    return _stage(ramp, step)[2]


def first_sample(ramp: Ramp, step: int) -> int:
    """Return how many sequences the steps before `step` took: the index of its own first one."""
    first_step, sample, size = _stage(ramp, step)
    return sample + (step - first_step) * size


def steps_in(ramp: Ramp, samples: int) -> float:
    """Return the steps, the last one whole or not, whose batches are so many sequences."""
    begun = [stage for stage in _stages(ramp) if stage[1] <= samples]
    first_step, start, size = begun[-1]
    return first_step + (samples - start) / size


def _stage(ramp: Ramp, step: float) -> tuple[int, int, int]:
    return [stage for stage in _stages(ramp) if stage[0] <= step][-1]


def _stages(ramp: Ramp) -> Iterator[tuple[int, int, int]]:
    """Give (first step, first sample, batch) of each stage; one overrun by a step has no steps."""
    step = sample = 0
    ends = [start for start, _ in ramp.stages[1:]]
    for (_, size), end in zip(ramp.stages, [*ends, 0], strict=True):
        yield step, sample, size
        taken = max(0, -(-(end - sample) // size))
        step, sample = step + taken, sample + taken * size
