"""Which rank keeps the others waiting, from a sign of life of each: pure, so it can be tested.

A rank that waits inside a collective is a victim; the one that did not come is the culprit.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Final

ENDED: Final = "ended"
"""Phase of a rank whose watchdog was stopped: it left the training loop."""
MAX_CHARS: Final = 230
MAX_RANGES: Final = 4
"""Runs of ranks named in one place."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Sign:
    """What a rank says of itself, once per interval."""

    rank: int
    """In the world."""
    count: int
    """Signs given so far: one that does not grow is a stopped or dead process."""
    time_s: float
    """Of the rank's clock, since 1970."""
    step: int
    """Optimizer step the trainer is in."""
    phase: str
    """Part of the step, as the trainer names it."""
    marks: int
    """Phases begun in this step."""
    quiet_s: float
    """Since the trainer last began a phase."""
    allowed_s: float
    """It may stay in this phase so long."""
    where: str
    """Collective that the trainer is in; empty when it is in none."""

    @property
    def place(self) -> tuple[int, int]:
        """How far the trainer is."""
        return self.step, self.marks

    def to_json(self) -> str:
        """Return the sign as one line of JSON."""
        return json.dumps(asdict(self))


def sign_of(text: str | bytes) -> Sign:
    """Return the sign that `Sign.to_json` wrote."""
    return Sign(**json.loads(text))


def culprit(before: Sequence[Sign | None], now: Sequence[Sign | None], clock_s: float) -> str:
    """Return one line that names the ranks that hang and what the rest waits in; empty if none do.

    `before` and `now` hold each rank's sign at two moments more than an interval apart, `clock_s`
    the time of the second. A rank slower than others, within what its phase allows, does not hang.
    """
    absent = [rank for rank, sign in enumerate(now) if sign is None]
    seen = [sign for sign in now if sign is not None]
    mute = [s for s in seen if _is_mute(s, before[s.rank], clock_s)]
    if absent:
        return _line(f"{_ranks(absent)} hung: never gave a sign", seen)
    if mute:
        longest = max(clock_s - s.time_s for s in mute)
        head = f"{_ranks(s.rank for s in mute)} hung: no sign for {longest:.0f} s, last seen "
        return _line(head + _place(mute[0]), [s for s in seen if s not in mute])
    return _blame(seen)


def _is_mute(now: Sign, before: Sign | None, clock_s: float) -> bool:
    """Return whether a rank stopped giving signs, for longer than its phase may keep it busy."""
    same = before is not None and before.count == now.count
    return same and now.phase != ENDED and clock_s - now.time_s >= now.allowed_s


def _blame(signs: list[Sign]) -> str:
    """Judge ranks that all give signs: some wait in a collective, some are elsewhere."""
    waiting = [s for s in signs if s.where]
    ended = [s for s in signs if s.phase == ENDED]
    free = [s for s in signs if not s.where and s.phase != ENDED]
    # Ranks may name the parts of a step differently; only a later step is surely past the others.
    furthest = max((s.step for s in waiting), default=math.inf)
    behind = [s for s in free if s.step <= furthest]
    if behind:
        late = min(behind, key=lambda s: s.place)
        late = max((s for s in behind if s.place == late.place), key=lambda s: s.quiet_s)
        if late.quiet_s <= late.allowed_s:
            return ""
        head = f"rank {late.rank} hung: {late.quiet_s:.0f} s {_place(late)}"
        return _line(head, [s for s in signs if s is not late])
    if not any(s.quiet_s > s.allowed_s for s in waiting):
        return ""
    if ended:
        return _line(f"{_ranks(s.rank for s in ended)} ended", [s for s in signs if s not in ended])
    return _line("the ranks do not meet", sorted(signs, key=lambda s: s.place))


def _line(head: str, others: Iterable[Sign]) -> str:
    """Return a head and where the other ranks are, those of one place together."""
    groups: dict[str, list[int]] = defaultdict(list)
    for sign in sorted(others, key=lambda s: not s.where):  # those that wait come first
        groups[_doing(sign)].append(sign.rank)
    parts = [f"{_ranks(ranks)} {_verb(ranks, doing)}" for doing, ranks in groups.items()]
    line = "; ".join([head, *parts])
    return line if len(line) <= MAX_CHARS else f"{line[: MAX_CHARS - 1]}…"


def _doing(sign: Sign) -> str:
    if sign.phase == ENDED:
        return f"ended at step {sign.step}"
    if sign.where:
        return f"wait in {sign.where} ({sign.phase}) at step {sign.step}"
    return f"are {_place(sign)}"


def _verb(ranks: list[int], doing: str) -> str:
    if len(ranks) > 1:
        return doing
    return doing.replace("wait ", "waits ", 1).replace("are ", "is ", 1)


def _place(sign: Sign) -> str:
    return f"at step {sign.step} in {sign.phase}"


def _ranks(ranks: Iterable[int]) -> str:
    """Return ranks as people write them: `rank 3`, `ranks 0, 2-7`."""
    runs: list[list[int]] = []
    for rank in sorted(ranks):
        if runs and rank == runs[-1][-1] + 1:
            runs[-1].append(rank)
        else:
            runs.append([rank])
    shown = [str(r[0]) if len(r) == 1 else f"{r[0]}-{r[-1]}" for r in runs[:MAX_RANGES]]
    more = ", …" if len(runs) > MAX_RANGES else ""
    one = len(runs) == 1 and len(runs[0]) == 1
    return f"rank{'' if one else 's'} {', '.join(shown)}{more}"
