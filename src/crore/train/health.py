"""Whether training is well: from each step's loss and gradient norm to what to do next.

Every rank judges the same reduced numbers, so all ranks do the same.
"""

from __future__ import annotations

import math
import statistics
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

Action = Literal["go on", "skip", "roll back", "stop", "again"]
DEVIATION: Final = 1.4826
"""Standard deviations of a normal distribution per median absolute deviation."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """When a step is bad, and how many bad ones are too many."""

    skips: int = 3
    """Steps in a row without a finite loss and gradient, at which training rolls back."""
    window: int = 100
    """Good steps whose losses say what is usual."""
    armed_after: int = 20
    """Good steps before a loss can be called a spike: early losses fall steeply."""
    deviations: float = 6.0
    """Robust standard deviations above the median at which a loss is a spike."""
    least_deviation: float = 0.02
    """A deviation counts as at least this share of the median: less is smooth, not strict."""
    spike_steps: int = 3
    """Spikes in a row at which training rolls back; a single one passes by itself."""
    rollbacks: int = 3
    """Roll-backs within `span_steps`, after which the next one stops the run."""
    span_steps: int = 1000
    """Steps over which roll-backs are counted."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """What to do after a step."""

    action: Action
    """`skip` drops this step's update; `roll back` returns to the last checkpoint; `again` takes
    the step anew, with the same samples."""
    reason: str = ""
    """One line with the numbers; empty while all is well."""


GO_ON: Final = Verdict(action="go on")
AGAIN: Final = Verdict(action="again")


class Health:
    """The state of the watch over a run; it lives on through a roll-back."""

    def __init__(self, limits: Limits | None = None) -> None:
        self.limits = limits or Limits()
        self._usual: deque[float] = deque(maxlen=self.limits.window)
        self._skipped = self._spikes = 0
        self._rolled_back: list[int] = []

    @property
    def calm(self) -> bool:
        """Whether the last step was neither skipped nor a spike."""
        return not self._skipped and not self._spikes

    def judge(self, step: int, loss: float, grad_norm: float) -> Verdict:
        """Return what to do with a step of this loss and gradient norm, before its update."""
        if not math.isfinite(loss) or not math.isfinite(grad_norm):
            return self._not_finite(step, f"loss {loss:g}, gradient norm {grad_norm:g}")
        self._skipped = 0
        limit = self._spike_limit()
        if loss > limit:
            return self._spike(step, f"loss {loss:.4g} is above {limit:.4g}")
        self._spikes = 0
        self._usual.append(loss)
        return GO_ON

    def _not_finite(self, step: int, what: str) -> Verdict:
        self._skipped += 1
        if self._skipped >= self.limits.skips:
            return self._roll_back(step, f"{what}, {self._skipped} steps in a row")
        count = f"{self._skipped} in a row, {self.limits.skips} roll back"
        return Verdict(action="skip", reason=f"step {step}: {what}: update skipped ({count})")

    def _spike(self, step: int, what: str) -> Verdict:
        self._spikes += 1
        usual = f"{what} (the median of {len(self._usual)} steps is {self._median():.4g})"
        if self._spikes >= self.limits.spike_steps:
            return self._roll_back(step, f"{usual}, {self._spikes} steps in a row")
        return Verdict(action="go on", reason=f"step {step}: {usual}")

    def _roll_back(self, step: int, why: str) -> Verdict:
        """Return a roll-back, or the end of the run when there have been too many of late."""
        span, most = self.limits.span_steps, self.limits.rollbacks
        self._rolled_back = [s for s in self._rolled_back if abs(step - s) <= span]
        self._skipped = self._spikes = 0
        self._usual.clear()
        if len(self._rolled_back) >= most:
            return Verdict(
                action="stop",
                reason=f"step {step}: {why}, after {most} roll-backs within {span} steps: "
                "lower the learning rate, or look at the data of these steps",
            )
        self._rolled_back.append(step)
        count = f"{len(self._rolled_back)} of {most} within {span} steps"
        return Verdict(action="roll back", reason=f"step {step}: {why}: rolling back ({count})")

    def _median(self) -> float:
        return statistics.median(self._usual)

    def _spike_limit(self) -> float:
        """Return the loss above which a step is a spike; infinite until enough is known.

        Median and median absolute deviation: the spikes themselves move neither.
        """
        if len(self._usual) < self.limits.armed_after:
            return math.inf
        middle = self._median()
        spread = DEVIATION * statistics.median(abs(loss - middle) for loss in self._usual)
        least = self.limits.least_deviation * abs(middle)
        return middle + self.limits.deviations * max(spread, least)

    def facts(self) -> dict[str, Any]:
        """Return the state as JSON takes it."""
        return {
            "usual": list(self._usual),
            "skipped": self._skipped,
            "spikes": self._spikes,
            "rolled_back": list(self._rolled_back),
        }

    def load_facts(self, facts: Mapping[str, Any]) -> None:
        """Take up what `facts` returned; roll-backs made since then are not forgotten.

        So a checkpoint restored by a roll-back cannot make the run roll back for ever.
        """
        self._usual = deque(facts["usual"], maxlen=self.limits.window)
        self._skipped, self._spikes = int(facts["skipped"]), int(facts["spikes"])
        self._rolled_back = max(self._rolled_back, list(facts["rolled_back"]), key=len)
