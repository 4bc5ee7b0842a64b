"""Bubbles and in-flight counts of the table agree with a pipeline played event by event."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crore.cost.pipeline import Pipeline, waiting
from crore.cost.schedules import (
    SCHEDULE_NAMES,
    SCHEDULES,
    chunks_per_rank,
    ends_apart,
    in_flight,
    least_micro_batches,
    schedule_code,
    transfers,
    weight_copies,
)


def bubble_s(code, pp, vpp, *passes):
    """Return idle seconds of a pipeline of equal stages."""
    forward_s, backward_s, weight_s = passes
    waits = waiting(Pipeline(
        code=code, pp=pp, vpp=vpp, micro_batches=64.0, forward_s=forward_s, backward_s=backward_s,
        weight_s=weight_s,
    ))  # fmt: skip
    assert not np.any(waits.messages_s)
    return waits.bubble_s


Event = tuple[str, int, int]
"""("F" or "B", chunk of the whole model, micro-batch)."""


def gpipe(p: int, m: int, rank: int) -> Iterator[Event]:
    """All forwards, then all backwards."""
    del p
    yield from (("F", rank, i) for i in range(m))
    yield from (("B", rank, i) for i in range(m))


def one_f_one_b(p: int, m: int, rank: int) -> Iterator[Event]:
    """Warm up, then one forward and one backward in turn."""
    warm = min(p - rank - 1, m)
    yield from (("F", rank, i) for i in range(warm))
    for i in range(m - warm):
        yield from (("F", rank, warm + i), ("B", rank, i))
    yield from (("B", rank, i) for i in range(m - warm, m))


def interleaved(p: int, m: int, rank: int, v: int) -> Iterator[Event]:
    """Chunks in turn, p micro-batches each (arXiv 2104.04473 Figure 4); m is a multiple of p."""
    groups = [(g, c) for g in range(m // p) for c in range(v)]
    forwards = [("F", c * p + rank, g * p + i) for g, c in groups for i in range(p)]
    backwards = [("B", (v - 1 - c) * p + rank, g * p + i) for g, c in groups for i in range(p)]
    warm = min(2 * (p - rank - 1) + (v - 1) * p, m * v)
    yield from forwards[:warm]
    for i in range(m * v - warm):
        yield from (forwards[warm + i], backwards[i])
    yield from backwards[m * v - warm :]


def play(orders: list[list[Event]], chunks: int, f: float, b: float) -> tuple[float, int]:
    """Return (end of the last event, most chunk activations the first rank held).

    Each rank keeps its order; an event waits for its neighbour chunk, and a message takes no time.
    """
    done: dict[Event, float] = {}
    clock = [0.0] * len(orders)
    at = [0] * len(orders)
    while any(i < len(order) for i, order in zip(at, orders, strict=True)):
        before = list(at)
        for rank, order in enumerate(orders):
            while at[rank] < len(order) and (ready := _ready(order[at[rank]], chunks, done)) >= 0:
                event = order[at[rank]]
                clock[rank] = max(clock[rank], ready) + (f if event[0] == "F" else b)
                done[event] = clock[rank]
                at[rank] += 1
        assert at != before, "the order waits for itself"
    held = np.cumsum([1 if event[0] == "F" else -1 for event in orders[0]])
    return max(clock), int(held.max())


def _ready(event: Event, chunks: int, done: dict[Event, float]) -> float:
    kind, chunk, i = event
    if kind == "F":
        needs = ("F", chunk - 1, i) if chunk else None
    else:
        needs = ("B", chunk + 1, i) if chunk + 1 < chunks else ("F", chunk, i)
    return 0.0 if needs is None else done.get(needs, -1.0)


def closed(name: str, p: int, m: int, v: int, f: float, b: float) -> tuple[float, float]:
    """Return (bubble, whole-stage activations in flight) of the table."""
    code = float(schedule_code(name))
    half = b / 2
    bubble = bubble_s(code, float(p), float(v), f, half, half)
    return float(bubble), float(in_flight(code, float(p), float(v), float(m)))


sizes = {
    "p": st.integers(1, 8),
    "m": st.integers(1, 24),
    "f": st.floats(0.5, 2.0),
    "b": st.floats(0.5, 4.0),
}


@given(**sizes)
def test_gpipe_idles_p_minus_1_slots_and_holds_everything(p, m, f, b):
    end, held = play([list(gpipe(p, m, rank)) for rank in range(p)], p, f, b)
    bubble, in_flight_m = closed("gpipe", p, m, 1, f, b)
    assert end == pytest.approx(m * (f + b) + bubble)
    assert held == m
    assert in_flight_m == (m if p > 1 else 1)


@given(**sizes)
def test_1f1b_idles_like_gpipe_and_holds_p_micro_batches(p, m, f, b):
    end, held = play([list(one_f_one_b(p, m, rank)) for rank in range(p)], p, f, b)
    bubble, in_flight_m = closed("1f1b", p, m, 1, f, b)
    if m >= p:  # fewer micro-batches than stages leave idle slots that overlap
        assert end == pytest.approx(m * (f + b) + bubble)
    else:
        assert end <= (m * (f + b) + bubble) * (1 + 1e-9)
    assert held == in_flight_m == min(p, m)


@given(
    p=st.integers(2, 6), rounds=st.integers(1, 4), v=st.integers(2, 4), f=sizes["f"], b=sizes["b"]
)
def test_interleaving_divides_the_bubble_by_its_chunks(p, rounds, v, f, b):
    m = rounds * p
    orders = [list(interleaved(p, m, rank, v)) for rank in range(p)]
    end, held = play(orders, p * v, f / v, b / v)
    bubble, in_flight_m = closed("interleaved", p, m, v, f, b)
    assert end == pytest.approx(m * (f + b) + bubble)
    # p(1 + (p-1)/(pv)) stages, a v-th of a stage each chunk (arXiv 2205.05198 §4.2.3).
    assert held / v == pytest.approx(in_flight_m)


F, B, W, P = 1.0, 1.1, 0.7, 8.0


@pytest.mark.parametrize(
    ("name", "bubble", "held", "copies"),
    [
        ("gpipe", (P - 1) * (F + B + W), 64, 1),
        ("1f1b", (P - 1) * (F + B + W), P, 1),
        ("zb-h1", (P - 1) * (F + B - W), P, 1),  # arXiv 2401.10241 Table 1
        ("zb-h2", (P - 1) * (F + B - 2 * W), 2 * P - 1, 1),
        ("zb-v", (P - 1) * B / 2, P, 1),  # arXiv 2405.15362: none, but for fill and drain
    ],
)
def test_the_table_states_the_papers_rows(name, bubble, held, copies):
    code = float(schedule_code(name))
    assert bubble_s(code, P, 1.0, F, B, W) == pytest.approx(bubble)
    assert in_flight(code, P, 1.0, 64.0) == held
    assert weight_copies(code, P) == copies


def test_a_v_has_both_ends_on_one_rank_and_dualpipe_both_on_two():
    codes = np.array([schedule_code(name) for name in ("1f1b", "zb-v", "dualpipe-v", "dualpipe")])
    assert np.array_equal(ends_apart(codes), [1, 0, 0, 0.5])


def test_dualpipe_is_the_row_its_makers_print():
    """arXiv 2412.19437 Table 2: (p/2 - 1)(F&B + B - 3W), p + 1 in flight, parameters twice.

    Their B is the whole backward, and F&B, a forward and a backward overlapped, takes as long as
    both. DualPipeV has the same row for 2p half stages on p ranks, so one copy of the parameters.
    Equal passes, for the makers round: of others it is less.
    """
    slot = (F + 2 * F) + 2 * F - 3 * F
    both_ends, folded = (float(schedule_code(name)) for name in ("dualpipe", "dualpipe-v"))
    assert bubble_s(both_ends, P, 1.0, F, F, F) == pytest.approx((P / 2 - 1) * slot)
    assert bubble_s(folded, P, 1.0, F, F, F) == pytest.approx((2 * P / 2 - 1) * slot / 2)
    assert 0.9 < bubble_s(both_ends, P, 1.0, F, B, W) / ((P / 2 - 1) * (F + 2 * B - W)) < 1
    assert in_flight(both_ends, P, 1.0, 64.0) == P + 1
    assert in_flight(folded, P, 1.0, 64.0) == (2 * P + 1) / 2
    assert (weight_copies(both_ends, P), weight_copies(folded, P)) == (2, 1)


def test_zero_bubble_is_a_third_of_1f1b_when_passes_are_equal():
    third, whole = (
        float(bubble_s(float(schedule_code(name)), P, 1.0, 1.0, 1.0, 1.0))
        for name in ("zb-h1", "1f1b")
    )
    assert third == pytest.approx(whole / 3)


@given(
    code=st.integers(0, len(SCHEDULES) - 1),
    p=st.integers(1, 64),
    m=st.integers(1, 512),
    v=st.integers(1, 8),
    times=st.tuples(*[st.floats(0.0, 10.0)] * 3),
)
def test_no_row_gains_time_or_holds_more_than_there_is(code, p, m, v, times):
    bubble = bubble_s(float(code), float(p), float(v), *times)
    assert 0 <= bubble <= (p - 1) * sum(times) + 1e-9
    assert 0 < in_flight(float(code), float(p), float(v), float(m)) <= m
    assert p > 1 or bubble == 0


def test_a_rank_sends_once_per_chunk_that_a_micro_batch_goes_through():
    """Of DualPipe's two copies a micro-batch goes through one."""
    names = ("1f1b", "interleaved", "zb-v", "dualpipe")
    codes = np.array([schedule_code(name) for name in names])
    assert np.array_equal(transfers(codes, np.array([1.0, 4.0, 1.0, 1.0])), [1, 4, 2, 1])


def test_every_row_says_who_runs_it_and_where_it_is_from():
    assert set(SCHEDULE_NAMES) == {
        "gpipe", "1f1b", "interleaved", "zb-h1", "zb-h2", "zb-v", "dualpipe", "dualpipe-v",
    }  # fmt: skip
    for row in SCHEDULES:
        assert row.runs_on, row.name
        assert row.source, row.name


def test_an_unknown_schedule_has_no_row():
    with pytest.raises(ValueError, match="not in tuple"):
        schedule_code("1f2b")


def test_schedules_are_picked_per_candidate():
    codes = np.arange(len(SCHEDULES), dtype=float)
    together = bubble_s(codes, P, 1.0, F, B, W)
    alone = [float(bubble_s(code, P, 1.0, F, B, W)) for code in codes]
    assert np.array_equal(together, alone)


@pytest.mark.parametrize(
    ("name", "least"),
    [
        ("gpipe", 0), ("1f1b", 0), ("interleaved", 0), ("zb-h1", P), ("zb-h2", 2 * P),
        ("zb-v", 2 * P), ("dualpipe", 2 * P), ("dualpipe-v", 2 * P),
    ],
)  # fmt: skip
def test_a_schedule_that_fills_its_bubble_needs_micro_batches_to_fill_it(name, least):
    """DualPipe asserts two micro-batches per rank (deepseek-ai/DualPipe, step())."""
    assert least_micro_batches(float(schedule_code(name)), P) == least


def test_a_rank_holds_its_own_chunks_or_the_two_of_a_v():
    names = ("1f1b", "interleaved", "zb-v", "dualpipe", "dualpipe-v")
    codes = np.array([schedule_code(name) for name in names])
    vpp = np.array([1.0, 4.0, 1.0, 1.0, 1.0])
    assert np.array_equal(chunks_per_rank(codes, vpp), [1, 4, 2, 2, 2])


@given(code=st.integers(0, len(SCHEDULES) - 1), v=st.integers(1, 16))
def test_a_rank_sends_no_more_than_its_chunks(code, v):
    interleaved = SCHEDULES[code].virtual_chunks == 0
    vpp = float(v) if interleaved else 1.0
    assert 1 <= transfers(float(code), vpp) <= chunks_per_rank(float(code), vpp)
