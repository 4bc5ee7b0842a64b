"""The rounds of a run on one rank: what is due after an inner step is sent, and taken up later."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from torch import Tensor

from crore.train.islands.exchange import Exchanged, Members, Pending, begin
from crore.train.islands.gate import Gate
from crore.train.islands.outer import OuterState
from crore.train.islands.settings import Outer


@dataclass(frozen=True, kw_only=True, slots=True)
class Round:
    """What became of one fragment's round."""

    fragment: int
    exchanged: Exchanged | None
    """None where a collective failed here."""
    applied: bool
    """Whether the global weights moved; where not, the next round has this one's work too."""
    error: str = ""
    """What a collective raised."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Sent:
    pending: Pending
    tokens: int


class Rounds:
    """One rank's outer steps, from inner step to inner step; all islands make the same calls.

    `meet` is called when a fragment is sent and returns who takes part, with this island's weight
    per token (1, or 0 to receive only) and without a judge. `agreed` is told whether a round
    arrived here and returns whether it arrived everywhere: else nobody applies it.
    """

    def __init__(
        self, named: Mapping[str, Tensor], settings: Outer, *, meet: Callable[[], Members],
        agreed: Callable[[bool], bool] = lambda arrived: arrived,
    ) -> None:  # fmt: skip
        self.settings, self._named = settings, named
        self.state = OuterState(named, settings)
        self.gates = [Gate() for _ in range(settings.fragments)]
        self._meet, self._agreed = meet, agreed
        self._sent: dict[int, _Sent] = {}

    def after(self, steps: int, tokens: int) -> Round | None:
        """Do what is due after `steps` inner steps, the last of `tokens`; return a round's end."""
        self.state.count(tokens)
        fragment = self.settings.sends(steps)
        if fragment is not None:
            self._send(fragment)
        fragment = self.settings.takes(steps)
        if fragment is None or fragment not in self._sent:
            return None
        return self._take(fragment)

    def finish(self, steps: int) -> list[Round]:
        """End a run after `steps`: all islands then have the same weights.

        What is under way is taken up; what was trained since is joined without momentum.
        """
        ends = [self._take(fragment) for fragment in list(self._sent)]
        for fragment in range(self.settings.fragments):
            if self.settings.overlap or self.settings.sends(steps) != fragment:
                self._send(fragment)
                ends.append(self._take(fragment, last=True))
        return ends

    def forget(self) -> None:
        """Drop what is under way, for weights that are loaded: a checkpoint's, or a peer's."""
        self._sent.clear()

    def _send(self, fragment: int) -> None:
        tokens = self.state.take_count(fragment)
        members = self._meet()
        members = replace(members, weight=members.weight * tokens, judge=self.gates[fragment].judge)
        delta = self.state.delta(fragment, self._named)
        pending = begin(members, delta, self.settings.bits)
        self._sent[fragment] = _Sent(pending=pending, tokens=tokens)

    def _take(self, fragment: int, *, last: bool = False) -> Round:
        sent, error = self._sent.pop(fragment), ""
        try:
            exchanged = sent.pending.wait()
        except (RuntimeError, TimeoutError) as lost:  # of a group, torch's errors are such
            exchanged, error = None, str(lost)
        applied = self._agreed(exchanged is not None) and exchanged is not None
        if exchanged is None or not applied:
            self.state.tokens[fragment] += sent.tokens
        else:
            (self.state.settle if last else self.state.apply)(fragment, exchanged.mean)
            self.gates[fragment].keep(exchanged.verdict, exchanged.weights)
            self.state.take(fragment, self._named, whole=last)
        return Round(fragment=fragment, exchanged=exchanged, applied=applied, error=error)
