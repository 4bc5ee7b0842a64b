"""Micro-batches in flight are those of torch's schedules."""

from __future__ import annotations

import pytest

from crore.cost.memory_flight import ends, flights
from crore.cost.schedules import schedule_code


@pytest.fixture
def job(make_job):
    def _job(schedule, **layout):
        return make_job(
            "llama-3.1-8b", stack="crore", global_batch=16.0, pp=4,
            schedule=schedule_code(schedule), **layout,
        )  # fmt: skip

    return _job


@pytest.mark.parametrize(("position", "held"), [(0, 4.0), (2, 2.0), (3, 1.0)])
def test_1f1b_holds_one_for_each_rank_from_here_to_the_end(position, held, job):
    first, later = flights(job("1f1b"), position)
    assert (float(first[0]), float(later[0])) == (held, held)


def test_gpipe_holds_all(job):
    assert float(flights(job("gpipe"), 3)[0][0]) == 16


def test_interleaving_warms_up_with_a_round_of_all_chunks_but_the_last(job):
    # One round of 4, two passes for each of 3 ranks behind, and the one at work: 11 half stages.
    assert float(flights(job("interleaved", vpp=2), 0)[0][0]) == 11 / 2


def test_the_v_holds_two_passes_for_each_rank_anywhere(job):
    assert {float(flights(job("zb-v"), position)[0][0]) for position in range(4)} == {4.0}


def test_the_ends_of_a_pipeline_hold_embedding_and_head(job):
    (first, _), (last, position) = ends(job("1f1b"))
    assert (float(first.first), float(first.last)) == (1, 0)
    assert (float(last.first), float(last.last)) == (0, 1)
    assert (float(first.layers), float(last.layers), float(position)) == (8, 8, 3)
