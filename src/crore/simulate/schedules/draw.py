"""Passes and messages of a played pipeline as slices of a timeline."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from crore.simulate.schedules.events import Floats, Played
from crore.simulate.schedules.passes import KINDS
from crore.simulate.schedules.work import Work

STREAMS: Final = (
    "compute", "tp", "cp", "ep", "dp", "offload", "pp forward", "pp backward", "dp, once a step",
)  # fmt: skip
"""Tracks of a rank, from the top."""
ALL_RANKS: Final = 32
"""Pipelines of so many ranks are drawn whole; of longer ones, one rank of each role."""
NAMES: Final = {"F": "forward", "B": "backward", "I": "input gradient", "W": "weight gradient"}


class Slice(NamedTuple):
    """Something that a rank's stream does for a while."""

    rank: int
    stream: str
    name: str
    start_s: float
    length_s: float
    about: Mapping[str, float | int | str]


@dataclass(frozen=True, kw_only=True, slots=True)
class Drawing:
    """Slices of the passes of some ranks, and the micro-batches between that have none."""

    slices: tuple[Slice, ...]
    left_out: int
    """Micro-batches not drawn, of each chunk and direction."""


def drawn_ranks(ranks: int) -> tuple[int, ...]:
    """Return the pipeline ranks to draw: all, or both ends, their neighbours and the middle."""
    if ranks <= ALL_RANKS:
        return tuple(range(ranks))
    return (0, 1, ranks // 2, ranks - 2, ranks - 1)


def draw_passes(work: Work, played: Played, ranks: tuple[int, ...], most: int) -> Drawing:
    """Return the slices of the passes of `ranks`, at most about `most`.

    Where there would be more, the micro-batches in the middle are left out, when the pipe is full.
    """
    graph = played.graph
    chosen = np.isin(graph.rank[graph.slot], ranks)
    each = 2 + len(work.messages)
    count = int(graph.micro_batch.max()) + 1
    kept = max(1, int(count * most / max(1, int(chosen.sum()) * each)))
    if kept < count:
        first, last = (kept + 1) // 2, count - kept // 2
        chosen &= (graph.micro_batch < first) | (graph.micro_batch >= last)
    starts = _starts(work, played)
    slices = tuple(
        it for index in np.flatnonzero(chosen) for it in _one(work, played, starts, int(index))
    )
    return Drawing(slices=slices, left_out=max(0, count - kept))


def _lengths(work: Work, played: Played) -> Floats:
    """Return the seconds of each pass."""
    graph, times = played.graph, work.times
    table = np.stack(
        [times.forward_s, times.input_s + times.weight_s, times.input_s, times.weight_s]
    )
    lengths: Floats = table[graph.kind, graph.rank[graph.slot], graph.chunk]
    return lengths


def _starts(work: Work, played: Played) -> tuple[Floats, Floats]:
    """Return start and length of each pass; of two in a slot the second follows the first."""
    slot = played.graph.slot
    lengths = _lengths(work, played)
    starts = played.start_s[slot, 0]
    second = np.flatnonzero(np.diff(slot, prepend=-1) == 0)
    starts[second] += lengths[second - 1]
    return starts, lengths


def _one(work: Work, played: Played, at: tuple[Floats, Floats], index: int) -> Iterator[Slice]:
    """Yield a pass, the messages beside it and what it sends to another rank."""
    graph = played.graph
    kind, chunk = KINDS[graph.kind[index]], int(graph.chunk[index])
    rank, micro_batch = int(graph.rank[graph.slot[index]]), int(graph.micro_batch[index])
    start, length = float(at[0][index]), float(at[1][index])
    stage = int(work.stage[rank, chunk])
    about = {"micro_batch": micro_batch, "stage": stage, "layers": int(work.layers[rank, chunk])}
    yield Slice(
        rank, "compute", f"{kind}{micro_batch} {NAMES[kind]}, stage {stage}", start, length, about
    )
    if kind == "W":
        return
    for stream, it in work.messages.items():
        whole_s = (it.forward_s if kind == "F" else it.backward_s) * work.fullness[rank, chunk]
        if whole_s > 0:
            shown_s = whole_s * it.shown
            seen = min(float(whole_s), length)
            yield Slice(
                rank, stream, f"{stream} {kind}{micro_batch}, all messages of the pass",
                start + length - seen, seen,
                {"message_s": float(whole_s), "compute_waits_s": float(shown_s)},
            )  # fmt: skip
    if _leaves(work, rank, chunk, forward=kind == "F"):
        way = "forward" if kind == "F" else "backward"
        yield Slice(
            rank, f"pp {way}", f"send {kind}{micro_batch}",
            start + length - work.send_waits * work.send_s, work.send_s, {"from_stage": stage},
        )  # fmt: skip


def _leaves(work: Work, rank: int, chunk: int, *, forward: bool) -> bool:
    """Return whether a pass's output goes to another rank."""
    target = int(work.stage[rank, chunk]) + (1 if forward else -1)
    holders: NDArray[np.intp] = np.argwhere(work.stage == target)
    if not holders.size or not work.send_s:
        return False
    # DualPipe's two copies of a stage are apart; a copy sends within its own direction.
    return rank not in holders[:, 0] or work.schedule == "dualpipe"
