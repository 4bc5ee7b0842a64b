"""One replica's pipeline played exactly: a pass begins when its rank is free and its inputs are in.

A rank keeps its order (`order`); a message leaves when its pass ends and takes a time of its own
beside the sender's compute. Left out: messages waiting for each other on a link.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crore.errors import InputError
from crore.simulate.schedules.graph import NONE, Graph, graph_of, peak_in_flight
from crore.simulate.schedules.passes import chunk_share

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, slots=True)
class StageTimes:
    """Seconds of one micro-batch on each chunk; every array [ranks, chunks]."""

    forward_s: Floats
    input_s: Floats
    """Of the input gradients."""
    weight_s: Floats
    """Of the weight gradients; a whole backward is both."""
    transfer_s: Floats
    """From this chunk to the next one's rank, or to the one before it, where that is another."""

    def __post_init__(self) -> None:
        shapes = {np.shape(x) for x in (self.forward_s, self.input_s, self.weight_s,
                                        self.transfer_s)}  # fmt: skip
        if len(shapes) > 1 or len(next(iter(shapes))) != 2:
            raise InputError(f"stage times must be one shape [ranks, chunks], not {shapes}")


def even_stages(
    ranks: int, chunks: int, times_s: tuple[float, float, float], transfer_s: float = 0.0
) -> StageTimes:
    """Return times of equal stages: (F, I, W) seconds of one rank's whole stage, cut in chunks."""
    shape = (ranks, chunks)
    forward, inputs, weight = (np.full(shape, t / chunks) for t in times_s)
    return StageTimes(
        forward_s=forward, input_s=inputs, weight_s=weight, transfer_s=np.full(shape, transfer_s)
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Jitter:
    """Random slow-downs, lognormal with mean 1; coefficients of variation."""

    pass_cv: float = 0.0
    """Of each pass by itself."""
    rank_cv: float = 0.0
    """Of a rank over the whole step."""
    draws: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.pass_cv, self.rank_cv) < 0 or self.draws < 1:
            raise InputError(
                f"jitter needs cv of at least 0 and draws of at least 1, not {self.pass_cv}, "
                f"{self.rank_cv} and {self.draws}"
            )

    def factors(self, rank: NDArray[np.intp]) -> Floats:
        """Return [S, D] factors on the slots of ranks `[S]`."""
        rng = np.random.default_rng(self.seed)
        ranks = _lognormal(rng, self.rank_cv, (int(rank.max()) + 1, self.draws))
        return ranks[rank] * _lognormal(rng, self.pass_cv, (rank.size, self.draws))


def _lognormal(rng: np.random.Generator, cv: float, shape: tuple[int, int]) -> Floats:
    if cv == 0:
        return np.ones(shape)
    variance = np.log1p(cv**2)
    return rng.lognormal(-variance / 2, np.sqrt(variance), shape)


@dataclass(frozen=True, kw_only=True, slots=True)
class Played:
    """One step of one pipeline; seconds from the first pass on, D draws of jitter."""

    graph: Graph
    start_s: Floats
    """[S, D] by slot."""
    end_s: Floats
    """[S, D]."""
    makespan_s: Floats
    """[D] until the last rank's last pass."""
    span_s: Floats
    """[ranks, D] from a rank's first pass to its last: what it takes a step where steps overlap."""
    busy_s: Floats
    """[ranks, D] in passes."""
    in_flight: tuple[float, ...]
    """By rank, the most activations held, in whole stages, each until its weight gradient."""

    @property
    def idle_s(self) -> Floats:
        """[ranks, D] of the makespan without a pass."""
        return self.makespan_s - self.busy_s


def simulate_schedule(
    schedule: str, micro_batches: int, times: StageTimes, jitter: Jitter | None = None
) -> Played:
    """Play a schedule over stages of these times; the shape says how many ranks and chunks.

    Exact for the order, the times and the factors drawn. DualPipe's chunks are its two copies: a
    rank's stage from the first end and its stage from the other. UnknownName and InputError as
    `order_of`.
    """
    ranks, chunks = times.forward_s.shape
    graph = graph_of(schedule, ranks, chunks, micro_batches)
    seconds = _slot_s(graph, times)[:, None]
    factors = np.ones((1, 1)) if jitter is None else jitter.factors(graph.rank)
    length = seconds * factors
    end = _play(graph, length, np.append(times.transfer_s.ravel(), 0.0))
    start = end - length
    busy = np.zeros((ranks, length.shape[1]))
    np.add.at(busy, graph.rank, length)
    firsts = np.flatnonzero(graph.before == NONE)
    lasts = np.append(firsts[1:], graph.rank.size) - 1
    share = chunk_share(schedule, chunks) if ranks > 1 else 1 / chunks
    return Played(
        graph=graph, start_s=start, end_s=end, makespan_s=end[lasts].max(axis=0),
        span_s=end[lasts] - start[firsts], busy_s=busy,
        in_flight=peak_in_flight(graph, share),
    )  # fmt: skip


def _slot_s(graph: Graph, times: StageTimes) -> Floats:
    """Return seconds of each slot [S]."""
    whole = times.input_s + times.weight_s
    table = np.stack([times.forward_s, whole, times.input_s, times.weight_s])
    each = table[graph.kind, graph.rank[graph.slot], graph.chunk]
    total: Floats = np.bincount(graph.slot, weights=each, minlength=graph.rank.size).astype(float)
    return total


def _play(graph: Graph, length: Floats, transfer: Floats) -> Floats:
    """Return the end of each slot [S, D]; row S stays 0 and stands for no slot."""
    end = np.zeros((graph.rank.size + 1, length.shape[1]))
    late = transfer[graph.sender][:, :, None]
    for slots in graph.levels:
        ready = end[graph.before[slots]]
        for k in range(2):
            ready = np.maximum(ready, end[graph.waits[slots, k]] + late[slots, k])
        end[slots] = ready + length[slots]
    return end[:-1]
