"""A plan's step drawn from its own operations takes as long as planned, and can be read."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest

from crore.errors import InputError
from crore.simulate.schedules import timeline
from crore.simulate.schedules.draw import STREAMS, drawn_ranks
from crore.simulate.schedules.timeline import job_timeline, step_timeline

PLANS = ("llama3_405b", "deepseek_v3", "ten_million", "llama3-8b on 64")
MEGABYTE = 1e6


@pytest.fixture(scope="session")
def timelines(records):
    return {name: step_timeline(records[name]) for name in PLANS}


@pytest.mark.parametrize("name", PLANS)
def test_the_drawn_step_is_the_planned_one_within_three_percent(timelines, records, name):
    drawn = timelines[name]
    assert drawn.planned_s == pytest.approx(records[name]["step_time_s"]["value"], rel=1e-9)
    assert drawn.step_s == pytest.approx(drawn.planned_s, rel=0.03)
    assert drawn.gap == pytest.approx(drawn.step_s / drawn.planned_s - 1)


@pytest.mark.parametrize(
    ("schedule", "vpp"),
    [
        ("gpipe", 1), ("1f1b", 1), ("interleaved", 2), ("interleaved", 5), ("zb-h1", 1),
        ("zb-v", 1), ("dualpipe", 1), ("dualpipe-v", 1),
    ],
)  # fmt: skip
@pytest.mark.parametrize("rounds", [24.0, 64.0])
def test_every_schedule_is_drawn_within_three_percent(make_job, schedule, vpp, rounds):
    drawn = job_timeline(make_job(schedule=schedule, vpp=vpp, rounds=rounds))
    assert drawn.step_s == pytest.approx(drawn.planned_s, rel=0.03)


@pytest.mark.parametrize("model", ["llama3-8b", "llama3-70b"])
@pytest.mark.parametrize("stack", ["torchtitan", "megatron-2021"])
@pytest.mark.parametrize("schedule", ["1f1b", "zb-h1", "zb-h2", "zb-v", "dualpipe", "dualpipe-v"])
def test_with_the_fewest_micro_batches_and_a_long_head_it_still_is(
    make_job, model, stack, schedule
):
    """A head makes a rank up to a third longer; senders wait in one stack, not in the other."""
    drawn = job_timeline(make_job(model, schedule=schedule, stack=stack, rounds=16.0))
    assert drawn.step_s == pytest.approx(drawn.planned_s, rel=0.02)


@pytest.mark.drill
def test_every_drawn_pipeline_and_job_is_planned_within_three_percent():
    """The benchmark's 768 random pipelines and 120 jobs."""
    script = Path(__file__).parents[3] / "benchmarks/schedules.py"
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert done.stdout.count("0 of ") == 2


def test_a_step_that_the_next_overlaps_is_drawn_whole(make_job):
    """zb-h2 checks the norm afterwards: from step to step it takes a fill less than one alone."""
    drawn, apart = (job_timeline(make_job(schedule=name)) for name in ("zb-h2", "zb-h1"))
    assert apart.overlap_s == 0
    rows = drawn.played
    assert drawn.overlap_s == pytest.approx(rows.makespan_s[0] - rows.span_s.max())
    assert 0 < drawn.overlap_s <= 7 * drawn.work.times.forward_s.max()
    trace = drawn.trace()
    ends = max(it["ts"] + it["dur"] for it in trace["traceEvents"] if it["ph"] == "X")
    assert ends == pytest.approx((drawn.step_s + drawn.overlap_s) * 1e6)
    assert trace["otherData"]["next_step_overlaps_s"] == drawn.overlap_s


def test_one_rank_without_a_pipeline_takes_the_planned_time(make_job):
    drawn = job_timeline(make_job("llama3-8b", pp=1, tp=1, sequence_parallel=0, zero=3, rounds=4.0))
    assert drawn.step_s == pytest.approx(drawn.planned_s, rel=1e-9)
    assert drawn.played.idle_s.max() == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("name", PLANS)
def test_a_trace_is_small_and_its_slices_fit_in_the_step(timelines, name):
    drawn = timelines[name]
    trace = drawn.trace()
    assert len(json.dumps(trace, separators=(",", ":"))) < 20 * MEGABYTE
    slices = [it for it in trace["traceEvents"] if it["ph"] == "X"]
    assert len(slices) == len(drawn.slices)
    assert min(it["ts"] for it in slices) >= 0
    assert min(it["dur"] for it in slices) >= 0
    assert max(it["ts"] + it["dur"] for it in slices) == pytest.approx(drawn.step_s * 1e6)
    assert trace["otherData"]["planned_step_s"] == drawn.planned_s


@pytest.mark.parametrize("name", PLANS)
def test_every_rank_and_stream_that_does_something_has_a_name(timelines, name):
    events = timelines[name].trace()["traceEvents"]
    used = {(it["pid"], it["tid"]) for it in events if it["ph"] == "X"}
    threads = {(it["pid"], it["tid"]): it["args"]["name"] for it in events
               if it["name"] == "thread_name"}  # fmt: skip
    assert used == set(threads)
    assert set(threads.values()) <= set(STREAMS)
    processes = {it["pid"] for it in events if it["name"] == "process_name"}
    assert processes == {pid for pid, _ in used}


@pytest.mark.parametrize("name", PLANS)
def test_a_rank_computes_one_thing_at_a_time(timelines, name):
    by_rank = defaultdict(list)
    for it in timelines[name].slices:
        if it.stream == "compute":
            by_rank[it.rank].append((it.start_s, it.start_s + it.length_s))
    for rank, spans in by_rank.items():
        starts, ends = np.array(sorted(spans)).T
        assert (starts[1:] >= ends[:-1] - 1e-9).all(), rank


def test_a_rank_is_drawn_as_busy_as_it_was_played(timelines):
    drawn = timelines["llama3_405b"]
    passes = [it for it in drawn.slices if it.stream == "compute" and "stage" in it.about]
    for rank in drawn.ranks:
        busy = sum(it.length_s for it in passes if it.rank == rank)
        assert busy == pytest.approx(drawn.played.busy_s[rank, 0])


def test_messages_are_on_their_own_streams_with_what_compute_waits_for(timelines):
    drawn = timelines["llama3_405b"]
    tensor = [it for it in drawn.slices if it.stream == "tp"]
    assert tensor
    for it in tensor:
        assert 0 <= it.about["compute_waits_s"] <= it.about["message_s"]
    sends = [it for it in drawn.slices if it.stream.startswith("pp")]
    stages = int(drawn.work.stage.max()) + 1
    assert len(sends) == 2 * drawn.micro_batches * (stages - 1)
    once = {it.name for it in drawn.slices if it.stream == "dp, once a step"}
    assert once == {"gradient reduce-scatter", "weight all-gather"}


def test_a_pipeline_of_many_ranks_is_drawn_by_its_roles(timelines):
    drawn = timelines["ten_million"]
    ranks = len(drawn.work.layers)
    assert drawn.ranks == drawn_ranks(ranks) == (0, 1, ranks // 2, ranks - 2, ranks - 1)
    assert f"{ranks - 5} of {ranks} pipeline ranks" in drawn.left_out
    assert drawn_ranks(4) == (0, 1, 2, 3)


def test_a_long_step_leaves_out_its_middle_and_says_so(make_job):
    job = make_job(rounds=200.0)
    whole, part = job_timeline(job), job_timeline(job, max_slices=2_000)
    assert not whole.left_out
    assert len(part.slices) < 2_500 < len(whole.slices)
    assert "micro-batches in the middle" in part.left_out
    assert part.trace()["otherData"]["left_out"] == part.left_out
    assert part.step_s == whole.step_s
    seen = {it.about["micro_batch"] for it in part.slices if "micro_batch" in it.about}
    assert {0, 199} <= seen
    assert 100 not in seen


@pytest.mark.parametrize(
    ("schedule", "vpp"), [("1f1b", 1), ("interleaved", 2), ("zb-v", 1), ("dualpipe", 1)]
)
def test_a_very_long_step_is_played_in_part_and_says_so(make_job, monkeypatch, schedule, vpp):
    """What the pipe does when it is full repeats."""
    job = make_job(schedule=schedule, vpp=vpp, rounds=320.0)
    whole = job_timeline(job)
    monkeypatch.setattr(timeline, "MAX_PASSES", 1_000)
    part = job_timeline(job)
    assert not whole.left_out
    played = int(part.played.graph.micro_batch.max() + 1) * (2 if schedule == "dualpipe" else 1)
    assert f"{320 - played} micro-batches that were not played" in part.left_out
    assert part.step_s == pytest.approx(whole.step_s, rel=2e-3)
    assert part.played.graph.slot.size < whole.played.graph.slot.size / 5


def test_a_record_that_is_no_plan_is_told():
    with pytest.raises(InputError, match="the plan"):
        step_timeline({"request": {}})
