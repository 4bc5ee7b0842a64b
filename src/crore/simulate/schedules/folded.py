"""Orders of schedules with two chunks per rank: the V of zero bubble, and DualPipe's two streams.

Sources: ZB-V, Qi et al. 2024 (arXiv 2405.15362 Figure 3); DualPipe, DeepSeek-V3 report (arXiv
2412.19437 Figure 5) and github deepseek-ai/DualPipe; DualPipeV, the same cut in half.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Final

from crore.simulate.schedules.passes import Kind, Pass, Slot


class _Writer:
    """Gives each pass of a kind and chunk its next micro-batch."""

    def __init__(self) -> None:
        self._next: Counter[tuple[Kind, int]] = Counter()
        self.late: list[int] = []
        """Chunks whose weight gradients were put off, first to come first."""

    def count(self, kind: Kind, chunk: int) -> int:
        """Return how many passes of a kind were given so far."""
        return self._next[kind, chunk]

    def one(self, kind: Kind, chunk: int) -> Pass:
        """Return the next pass; a whole backward counts as both halves."""
        halves: tuple[Kind, ...] = ("I", "W") if kind == "B" else (kind,)
        made = Pass(kind, chunk, self._next[halves[0], chunk])
        self._next.update((half, chunk) for half in halves)
        return made

    def several(self, *passes: tuple[Kind, int], times: int = 1) -> Iterator[Slot]:
        """Yield the next passes so many times over, each a slot of its own."""
        for kind, chunk in passes * times:
            yield (self.one(kind, chunk),)

    def both(self, forward: int) -> Slot:
        """Return one chunk's next forward overlapped with the other's whole backward."""
        return self.one("F", forward), self.one("B", 1 - forward)

    def put_off(self, chunk: int) -> Iterator[Slot]:
        """Yield an input gradient whose weight gradient is to come later."""
        self.late.append(chunk)
        return self.several(("I", chunk))

    def make_up(self, times: int = 1) -> Iterator[Slot]:
        """Yield weight gradients that were put off."""
        for _ in range(times):
            yield from self.several(("W", self.late.pop(0)))


def zb_v(p: int, chunks: int, m: int, rank: int) -> Iterator[Slot]:
    """Forward passes until the first gradient is back, then F I W of each leg in turn.

    At the end input gradients first, weight gradients where nothing else is there to do. It is laid
    out for at least 2p - 1 micro-batches; with fewer the others' places stay empty.
    """
    del chunks
    for (only,) in _zb_v(p, max(2 * p - 1, m), rank):
        if only.micro_batch < m:
            yield (only,)


_WHOLE: Final[tuple[tuple[Kind, int], ...]] = (("F", 1), ("I", 1), ("W", 1))


def _zb_v(p: int, m: int, rank: int) -> Iterator[Slot]:
    write = _Writer()
    yield from write.several(("F", 0), times=2 * (p - rank) - 1)
    yield from write.several(("F", 1), ("F", 0), times=rank)
    yield from write.several(*_WHOLE, times=p - rank)
    while write.count("F", 1) < m:
        if write.count("F", 0) < m:
            yield from write.several(("F", 0))
        yield from write.several(("I", 0), ("W", 0), *_WHOLE)
    yield from write.several(("I", 0), ("I", 1), times=rank)
    yield from write.several(("I", 0), ("W", 0), times=p - rank)
    for chunk in (1, 0):
        yield from write.several(("W", chunk), times=m - write.count("W", chunk))


def dualpipe(p: int, chunks: int, m: int, rank: int) -> Iterator[Slot]:
    """Half the micro-batches from either end; the chunk nearer to its own first stage leads."""
    del chunks
    far = rank >= p // 2
    for slot in _two_streams(p // 2, m // 2, min(rank, p - 1 - rank)):
        yield tuple(Pass(it.kind, it.chunk ^ far, it.micro_batch) for it in slot)


def dualpipe_v(p: int, chunks: int, m: int, rank: int) -> Iterator[Slot]:
    """DualPipe's first half of the ranks, the other direction folded back onto them."""
    del chunks
    return _two_streams(p, m, rank)


def _two_streams(p: int, m: int, rank: int) -> Iterator[Slot]:
    """The eight steps of deepseek-ai/DualPipe on p ranks from an end to the middle, or the fold.

    Slots of two passes are a forward and a whole backward, overlapped.
    """
    write, behind = _Writer(), p - rank - 1
    yield from write.several(("F", 0), times=2 * behind)
    yield from write.several(("F", 0), ("F", 1), times=rank + 1)
    yield from write.several(("I", 1), ("W", 1), ("F", 1), times=behind)
    for i in range(m - 2 * p + rank + 1):
        # At the turn the first two run apart: the backward pass need not wait for the forward.
        yield from (write.both(0),) if i or behind else write.several(("F", 0), ("B", 1))
        yield write.both(1)
    for _ in range(behind):
        yield from write.several(("B", 1))
        yield write.both(1)
    for i in range(2 * (rank + 1)):
        chunk = 1 - i % 2
        yield from write.put_off(chunk) if i > rank else write.several(("B", chunk))
    for _ in range(behind):
        yield from write.make_up()
        yield from write.put_off(0)
    yield from write.make_up(len(write.late))
