"""Ways through a step of each schedule that can be the longest, counted in passes and messages.

Read off the schedules' orders played event by event (benchmarks/schedules.py): of even pipelines
and of ones whose rank with the head is longer, the passes that follow each other without a pause.
Which of them is the longest depends on the times; `pipeline` takes it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final, TypeAlias

Passes: TypeAlias = tuple[float, float, float]
"""How often (F, B, W) are counted."""
Line: TypeAlias = tuple[float, float]
"""How often something is counted: (per stage that waits, once)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Path:
    """A way through the step that can be the longest: its length over `m` times the slowest rank.

    Of interleaving, passes are chunks' and so as much shorter; `p - busy_stages` stages wait.
    """

    stages: Passes
    """Passes more than `m` of each, per stage that waits; negative where they are fewer."""
    once: Passes = (0.0, 0.0, 0.0)
    """The same, for the whole pipeline."""
    apart: Line = (0.0, 0.0)
    """Micro-batches that the path spends on other ranks than the slowest, the one with the head."""
    far: float = 0.0
    """As many more per stage that waits, where the slowest is the farthest from the head."""
    weight_apart: Line = (0.0, 0.0)
    """Weight gradients of the slowest rank that are not on the path beside those."""
    elsewhere: bool = False
    """The path does not touch the slowest rank."""
    hops: Line = (0.0, 0.0)
    """Messages between stages on the path; of interleaving, of each chunk."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Turn:
    """What repeats when the pipe is full, where messages can be its longest part.

    A micro-batch takes `(1 - 1/pv)·(hops·v·t - slack)` longer, t being the time of a message.
    """

    hops: float
    slack: Passes = (0.0, 0.0, 0.0)
    """Passes of a rank that messages are hidden behind, beside what the slowest takes longer."""


Paths: TypeAlias = tuple[Path, ...]
GPIPE: Final[Paths] = (Path(stages=(1, 1, 1), hops=(2, 0)),)
"""A micro-batch down the pipe and its gradient up: interleaving's too."""
ONE_F_ONE_B: Final[Paths] = tuple(replace(path, far=0.6) for path in GPIPE)
ZB_H1: Final[Paths] = (
    Path(stages=(1, 1, -1), far=0.35, weight_apart=(1, 1), hops=(2, 0)),
    # The last rank begins p - 1 forward passes late.
    Path(stages=(1, 0, 0), hops=(1, 0)),
    # Down and up twice, where no rank is longer than another.
    Path(stages=(1, 1, -1), apart=(1, 1), hops=(4, 0)),
    Path(stages=(0, 1, 0), elsewhere=True, hops=(2, 0)),
)
ZB_H2: Final[Paths] = (Path(stages=(1, 1, -2), far=0.5, weight_apart=(2, 1), hops=(2, 0)),)
# None for the paper, whose steps overlap and whose passes are equal. Where all wait for the norm,
# fill and drain remain.
ZB_V: Final[Paths] = (
    Path(stages=(0, 0.5, 0), elsewhere=True, hops=(5, -2)),
    Path(stages=(0, 1, -1), elsewhere=True, hops=(6, -2)),
    Path(stages=(1, -0.5, 0), elsewhere=True, hops=(5, -2)),
    Path(stages=(0, 0, 0.5), once=(0, 0, -0.5), weight_apart=(0, 1), hops=(3, 0)),
    Path(stages=(0, 0.5, -0.5), once=(0, 0, -0.5), weight_apart=(0, 1), hops=(4, 0)),
)
# The makers' (p/2 - 1)(F&B + B - 3W) = (p - 2)(F/2 + B - W/2) in our B, F&B, two passes overlapped,
# lasting as long as both: the same as these where passes are equal, and up to 1 % of a step more
# where they are not.
DUALPIPE: Final[Paths] = (
    Path(stages=(0.5, 1, -0.5), once=(-1, 0, 0), apart=(2, 0), far=-1.2, weight_apart=(0, 2),
         hops=(4, 2)),
    Path(stages=(1, 0.5, -0.5), apart=(2, 2), far=-1.2, hops=(3.5, 2)),
    Path(stages=(0.5, 1, -0.5), once=(0, -1, 0), apart=(2, -2), far=-1.2, weight_apart=(0, 2),
         hops=(4, 0)),
    Path(stages=(0, 1, -0.5), once=(0, -1, 0), apart=(1, -2), far=-0.6, weight_apart=(0, 2),
         hops=(3, 0)),
    Path(stages=(0, 0.5, -0.5), hops=(2, 2)),
)  # fmt: skip
# The same on half as many ranks, folded: twice as many half stages.
DUALPIPE_V: Final[Paths] = (
    Path(stages=(0.5, 1, -0.5), once=(-0.5, 0, 0), apart=(2, 0), far=-1.2, weight_apart=(0, 1),
         hops=(8, -2)),
    Path(stages=(1, 0.5, -0.5), apart=(2, 1), far=-1.2, hops=(6, -2)),
    Path(stages=(0.5, 1, -0.5), once=(0, -0.5, 0), apart=(2, -1), far=-1.2, weight_apart=(0, 1),
         hops=(8, -4)),
    Path(stages=(0, 1, -0.5), once=(0, -0.5, 0), apart=(1, -1), far=-0.6, weight_apart=(0, 1),
         hops=(6, -2)),
    Path(stages=(0, 0.5, -0.5), hops=(4, 0)),
)  # fmt: skip
