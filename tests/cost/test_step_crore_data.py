"""What crore's trainer sends of weights and gradients; the rehearsal holds it against the code."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from crore.cost import fitted_constants, operations
from crore.cost.job import Place
from crore.cost.price import Pricer

MICRO = 8.0
"""Micro-batches of the jobs below."""


@pytest.fixture
def crore_job(make_job):
    return lambda model="llama3-8b", **layout: make_job(model, stack="crore", **layout)


def per_step(job, axis):
    """Return (bytes of one, times in a step) of the messages of an axis, by name and phase."""
    return {
        (op.name, op.phase): (
            float(op.message_bytes * job.machine.element_scale),
            float(op.count * (job.micro_batches if op.repeat == "micro_batch" else 1.0)),
        )
        for op in operations(job)
        if op.kind == "collective" and op.axis == axis and np.any(op.count)
    }


def times(job, axis="dp_shard"):
    return {name: count for name, (_, count) in per_step(job, axis).items()}


@pytest.mark.parametrize(
    ("zero", "gathers", "again", "scatters", "when"),
    [(1, 8, 0, 1, "step"), (2, 8, 0, 8, "backward"), (3, 8, 8, 8, "backward")],
)
def test_each_zero_stage_gathers_and_scatters_as_fsdp2_does(
    crore_job, zero, gathers, again, scatters, when
):
    sent = times(crore_job(dp_shard=8, zero=zero, global_batch=64.0))
    assert sent["block gather", "forward"] == 32 * gathers
    assert sent.get(("block gather again", "backward"), 0) == 32 * again
    assert sent["block gradient scatter", when] == 32 * scatters
    assert sent["head gather", "forward"] == gathers
    assert ("head gather again", "backward") not in sent


def test_a_pipeline_gathers_once_more_than_it_has_micro_batches(crore_job):
    """torch keeps what a backward pass gathered until the next forward one lets it go."""
    job = crore_job(dp_shard=8, pp=4, zero=3, global_batch=64.0)
    sent = times(job)
    assert sent["block gather", "step"] == 8
    assert sent["block gather again", "backward"] == 8 * MICRO
    assert sent["block gradient scatter", "step"] == 8


def test_gradients_are_reduced_in_32_bits_and_weights_sent_in_16(crore_job):
    sent = per_step(crore_job(dp_shard=8, zero=3), "dp_shard")
    gather, scatter = sent["head gather", "forward"], sent["head gradient scatter", "backward"]
    assert gather[0] == 2 * (128256 + 1) * 4096
    assert scatter[0] == 2 * gather[0]


def test_replicas_sum_the_shards(crore_job):
    job = crore_job(dp_shard=4, dp_replicate=2, zero=2, global_batch=64.0)
    sums = per_step(job, "dp_replicate")["block replica sum", "backward"]
    scatter = per_step(job, "dp_shard")["block gradient scatter", "backward"]
    assert sums == (scatter[0] / 4, scatter[1])


def test_a_step_ends_with_three_numbers_of_all_ranks(crore_job):
    assert per_step(crore_job(tp=2), "world") == {("norm and loss", "step"): (24.0, 1.0)}
    assert per_step(crore_job(tp=2, precision="fp32"), "world")["norm and loss", "step"][0] == 24


def test_a_tied_table_is_summed_over_the_ends_alone(crore_job):
    job = crore_job("gpt2-124m", pp=4, tp=2, precision="fp32", zero=1)
    middle = replace(job, place=Place(layers=3.0, first=0.0, last=0.0))
    size = 4 * np.ceil(job.shape.vocab / 2) * job.shape.hidden
    assert per_step(job, "tied")["tied table gradient", "step"] == (size, 1.0)
    assert per_step(middle, "tied") == {}


def test_loads_of_experts_are_summed_over_every_axis_that_has_ranks(crore_job):
    job = crore_job("mixtral-8x7b", dp_shard=4, dp_replicate=2, tp=2, ep=8, sequence_parallel=1)
    for axis in ("dp_replicate", "dp_shard", "tp"):
        assert per_step(job, axis)[f"expert loads over {axis}", "step"] == (32 * 8 * 4, 1.0)


def test_one_rank_is_sent_nothing_that_takes_time(crore_job):
    job = crore_job()
    pricer = Pricer(job, fitted_constants())
    messages = [op for op in operations(job) if op.kind == "collective" and np.any(op.count)]
    assert [op.name for op in messages] == ["norm and loss"]
    assert float(pricer.seconds(messages[0])) == 0
