"""Every schedule's order runs each pass once, and is torch's where torch has one."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crore.cost.schedules import SCHEDULE_NAMES
from crore.errors import InputError, UnknownName
from crore.simulate.schedules.order import order_of
from crore.simulate.schedules.passes import ways

CHUNKS = {"zb-v": 2, "dualpipe": 2, "dualpipe-v": 2}


@st.composite
def pipelines(draw):
    """Return (schedule, ranks, chunks, micro-batches) that the schedule can run."""
    name = draw(st.sampled_from(SCHEDULE_NAMES))
    p, m = draw(st.integers(1, 7)), draw(st.integers(1, 20))
    v = CHUNKS.get(name, draw(st.integers(1, 4)) if name == "interleaved" else 1)
    if name == "interleaved":
        m = p * draw(st.integers(1, 4))
    if name.startswith("dualpipe"):
        p, m = 2 * draw(st.integers(1, 4)), 2 * draw(st.integers(0, 8))
        m += 2 * p
    return name, p, v, m


@given(pipeline=pipelines())
def test_every_chunk_runs_every_micro_batch_forward_and_back_once(pipeline):
    name, p, v, m = pipeline
    each = m // 2 if name == "dualpipe" and p > 1 else m
    for slots in order_of(name, p, v, m):
        runs = Counter(it for slot in slots for it in slot)
        assert set(runs.values()) == {1}
        forward = {(it.chunk, it.micro_batch) for it in runs if it.kind == "F"}
        back = [(it.chunk, it.micro_batch) for it in runs if it.kind in "BI"]
        weights = [(it.chunk, it.micro_batch) for it in runs if it.kind in "BW"]
        assert forward == {(c, i) for c in range(v) for i in range(each)}
        assert sorted(forward) == sorted(back) == sorted(weights)


@given(pipeline=pipelines())
def test_a_rank_goes_forward_before_it_goes_back_and_takes_weights_last(pipeline):
    for slots in order_of(*pipeline):
        place = {it: k for k, slot in enumerate(slots) for it in slot}
        for it, k in place.items():
            needs = {"F": (), "B": ("F",), "I": ("F",), "W": ("I",)}[it.kind]
            for kind in needs:
                assert place[it._replace(kind=kind)] < k  # type: ignore[arg-type]


def test_dualpipe_feeds_both_ends_and_a_v_turns_round():
    assert ways("dualpipe", 4, 2) == (
        ((0, 0), (1, 0), (2, 0), (3, 0)), ((3, 1), (2, 1), (1, 1), (0, 1)),
    )  # fmt: skip
    assert ways("zb-v", 2, 2) == (((0, 0), (1, 0), (1, 1), (0, 1)),)
    assert ways("interleaved", 2, 2) == (((0, 0), (1, 0), (0, 1), (1, 1)),)


@pytest.mark.parametrize(
    ("pipeline", "words"),
    [
        (("dualpipe", 4, 2, 6), "needs at least 8 micro-batches"),
        (("dualpipe-v", 4, 2, 6), "needs at least 8 micro-batches"),
        (("dualpipe", 3, 2, 12), "must be even"),
        (("interleaved", 4, 2, 9), "take a multiple of 4"),
        (("zb-v", 4, 1, 8), "zb-v has 2 chunks per rank, not 1"),
        (("1f1b", 4, 2, 8), "1f1b has 1 chunks per rank, not 2"),
        (("1f1b", 4, 1, 0), "at least one"),
    ],
)
def test_what_a_schedule_cannot_run_is_told_with_the_numbers(pipeline, words):
    with pytest.raises(InputError, match=words):
        order_of(*pipeline)


def test_a_schedule_without_a_row_is_unknown():
    with pytest.raises(UnknownName, match="2f2b"):
        order_of("2f2b", 4, 1, 8)


def torch_order(name: str, p: int, v: int, m: int) -> list[list[tuple[Any, ...]]]:
    """Return torch's own order: by rank, slots of (kind, stage, micro-batch)."""
    torch = pytest.importorskip("torch.distributed.pipelining.schedules")
    makers = {
        "gpipe": torch.ScheduleGPipe, "1f1b": torch.Schedule1F1B,
        "interleaved": torch.ScheduleInterleaved1F1B,
        "zb-h1": torch.ScheduleInterleavedZeroBubble, "zb-v": torch.ScheduleZBVZeroBubble,
        "dualpipe-v": torch.ScheduleDualPipeV,
    }  # fmt: skip
    made: Any = object.__new__(makers[name])  # its stages would need processes; its order does not
    made.pp_group_size, made._n_microbatches, made.n_local_stages = p, m, v
    made._num_stages = made.num_stages = p * v
    made.microbatches_per_round = m // max(1, m // p)
    if name in ("gpipe", "1f1b"):
        actions = made._get_pipeline_order()
        late = name == "1f1b"  # the plan it draws counts the last rank's forwards from 1
        actions[p - 1] = [
            it._replace(microbatch_index=it.microbatch_index - 1)
            if late and it is not None and it.computation_type.value == "F" else it
            for it in actions[p - 1]
        ]  # fmt: skip
    else:
        actions = {rank: made._calculate_single_rank_operations(rank) for rank in range(p)}
    return [
        [
            tuple((it.computation_type.value, it.stage_index, it.microbatch_index) for it in parts)
            for action in actions[rank]
            if action is not None and action.computation_type.value != "REDUCE_GRAD"
            for parts in [action.sub_actions or (action,)]
        ]
        for rank in range(p)
    ]


@pytest.mark.parametrize(
    ("name", "chunks", "micro_batches"),
    [
        ("gpipe", 1, (1, 3, 8)),
        ("1f1b", 1, (4, 5, 16)),
        ("interleaved", 2, (4, 8, 12, 10)),
        ("interleaved", 3, (4, 8)),
        ("zb-h1", 1, (4, 8, 13)),
        ("zb-v", 2, (1, 4, 7, 8, 20)),
        ("dualpipe-v", 2, (8, 9, 20)),
    ],
)
def test_the_order_is_torchs(name, chunks, micro_batches):
    """Torch numbers stages, here a rank numbers its chunks; torch marks idle slots too.

    The plan it draws of 1F1B is not what it runs: fewer micro-batches than stages are too many
    there, so that is asked for no fewer.
    """
    p = 4
    place = {at: stage for way in ways(name, p, chunks) for stage, at in enumerate(way)}
    for m in micro_batches:
        ours = [
            [
                tuple((it.kind, place[rank, it.chunk], it.micro_batch) for it in slot)
                for slot in slots
            ]
            for rank, slots in enumerate(order_of(name, p, chunks, m))
        ]
        assert ours == torch_order(name, p, chunks, m), m
