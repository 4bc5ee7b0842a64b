"""The worlds of an island as one crew: who is there, sums over them, and whether a step holds."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import torch
from torch import Tensor

from crore.train.fault.judge import Judge, Opinion
from crore.train.fault.meeting import Meeting
from crore.train.fault.seat import Seat
from crore.train.fault.shares import share_of
from crore.train.peers import Left, Share, State, Torn

LEAST_S: Final = 3.0
"""A message waits at least so long for its peers before they count as hung."""
STEPS: Final = 12.0
"""And so many usual steps: a world ten times slower is slow, and not gone."""
FIRST_S: Final = 20.0
"""A message of the first step, of which nobody knows how long it takes."""
STATE_BYTES_PER_S: Final = 1e9
"""Where the worlds changed, one may take up another's state meanwhile, at least so fast."""
QUORUM_S: Final = 120.0
BUCKET_BYTES: Final = 64 << 20
RECENT: Final = 20
"""Steps that say what is usual."""


class Crew:
    """The other worlds of this world's island, by torchft: lighthouse, quorum, healing, votes.

    Every rank of a world holds one. A world that dies makes the step fail for all; they meet again
    without it. One that joins takes up the state of a member before the step. `asked` says whether
    this world has been asked to leave meanwhile. `meeting` stands in for a meeting of its own.
    """

    many = True

    def __init__(
        self, seat: Seat, *, tell: Callable[[str], None], asked: Callable[[], bool],
        meeting: Meeting | None = None,
    ) -> None:  # fmt: skip
        self._seat, self._tell = seat, tell
        self._meeting = meeting or Meeting(
            seat.name, seat.lighthouse, quorum_s=QUORUM_S, tell=tell, asked=asked
        )
        self._judge, self._opinion = Judge(seat.world), Opinion()
        self.members: tuple[int, ...] = (seat.world,)
        self._took_s: list[float] = []
        self._state_bytes: Callable[[], int] = lambda: 0
        self._began_s = time.monotonic()

    @property
    def leads(self) -> bool:
        """Whether this world is the first of those that are there, or that will be."""
        if not self._meeting.met:
            return self._seat.world % self._seat.worlds == 0 and not self._seat.spare
        return self._meeting.place == 0

    def attach(self, state: Callable[[], State], load: Callable[[State], None]) -> None:
        """Name the functions that give this rank's state to a world that joins, and take one up."""
        self._meeting.attach(state, load)
        self._state_bytes = lambda: sum(tensor.nbytes for tensor in state()[0].values())

    def begin(self, *, done: int) -> None:
        """Meet: ask the lighthouse who is there, and take up a member's state when behind.

        Waits as long as there is no lighthouse; raises Left when it is asked to leave.
        """
        self._began_s = time.monotonic()
        # At 0 it is behind everybody: what this world holds is not what they hold.
        self._meeting.begin(0 if self._opinion.heal else done + 1)
        self._opinion = Opinion()

    @property
    def _wait_s(self) -> float:
        if not self._took_s:
            return FIRST_S
        more_s = self._state_bytes() / STATE_BYTES_PER_S if self._meeting.changed else 0.0
        return max(LEAST_S, STEPS * statistics.median(self._took_s)) + more_s

    def share(self, first: int, size: int, unit: int, *, equal: bool) -> Share:
        """Return this world's part of the island's samples; spares have none."""
        here = self._meeting
        return share_of(self._seat, here.place, here.size, first, size, unit, equal=equal)

    @torch.no_grad()
    def add(self, tensors: Sequence[Tensor]) -> None:
        """Add up tensors over the worlds, in place, in buckets."""
        if self._meeting.size == 1:
            return
        for bucket in _buckets(tensors):
            flat = torch.cat([tensor.reshape(-1) for tensor in bucket])
            self._meeting.add(flat, self._wait_s)
            parts = flat.split([tensor.numel() for tensor in bucket])
            for tensor, part in zip(bucket, parts, strict=True):
                tensor.copy_(part.view_as(tensor))

    @torch.no_grad()
    def publish(self, tensors: Sequence[Tensor]) -> None:
        """Give every world the first one's tensors, in place."""
        if not self.leads:
            for tensor in tensors:
                tensor.zero_()
        self.add(tensors)

    def sums(self, values: Mapping[str, float], checksum: int, busy_s: float) -> dict[str, float]:
        """Add up numbers over the worlds, in one message with what they hold against each other."""
        size, count = self._meeting.size, len(values)
        packed = torch.zeros(count + 3 * size, dtype=torch.float64)
        packed[:count] = torch.tensor(list(values.values()), dtype=torch.float64)
        table = packed[count:].view(size, 3)
        own = torch.tensor([self._seat.world, checksum, busy_s], dtype=torch.float64)
        table[self._meeting.place] = own
        self._meeting.add(packed, self._wait_s)
        if not self._meeting.failed:
            worlds, checksums, times = (table[:, k].tolist() for k in range(3))
            self.members = tuple(map(int, worlds))
            self._opinion = self._judge.hear(self.members, [int(c) for c in checksums], times)
            if self._opinion.reason:
                self._tell(self._opinion.reason)
            if self._opinion.again:
                self._meeting.fail(RuntimeError(self._opinion.reason))
        return dict(zip(values, packed[:count].tolist(), strict=True))

    def commit(self) -> bool:
        """Return whether the step holds, the same on all ranks of this world.

        Raises Left where this world should make room for another, and Torn where the worlds hold
        different weights and nobody knows whose are right.
        """
        holds = self._meeting.commit()
        if self._opinion.leave:
            raise Left(self._opinion.reason)
        if self._opinion.torn:
            raise Torn(self._opinion.reason)
        if holds and not self._meeting.changed:
            self._took_s = [*self._took_s[1 - RECENT :], time.monotonic() - self._began_s]
        return holds

    def close(self) -> None:
        """Leave the others: they hear of it, at the latest, when no heartbeat comes."""
        self._meeting.close()


def _buckets(tensors: Sequence[Tensor]) -> list[list[Tensor]]:
    """Return tensors in groups of one type and of at most BUCKET_BYTES, or of one tensor."""
    buckets: list[list[Tensor]] = []
    kind, held = None, 0
    for tensor in tensors:
        size = tensor.numel() * tensor.element_size()
        if tensor.dtype != kind or held + size > BUCKET_BYTES:
            buckets.append([])
            kind, held = tensor.dtype, 0
        buckets[-1].append(tensor)
        held += size
    return buckets
