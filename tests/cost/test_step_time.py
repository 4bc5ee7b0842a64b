"""The parts of a step add up to it, and N candidates priced together are N priced alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crore.cost import (
    forward_flops_per_token,
    memory,
    operations,
    stack_of,
    step_time,
)
from crore.cost.arrays import stack_columns
from crore.cost.constants import fitted_constants
from crore.cost.schedules import schedule_code
from crore.cost.stack import without_overlap
from crore.cost.step_time import (
    exposed_messages,
    hide,
    host_and_device,
    layers_with_head,
    pricer_of,
    stages,
    tally,
)

C = fitted_constants()
candidates = st.fixed_dictionaries(
    {
        "model": st.sampled_from(
            ["llama3-8b", "gpt-22b", "mixtral-8x7b", "deepseek-v3", "nemotron-3-nano",
             "qwen3-next-80b-a3b", "gemma3-12b", "gpt-oss-20b"]
        ),
        "stack": st.sampled_from(
            ["megatron-2021", "bigscience-2022", "megatron-2025", "nemo", "torchtitan", "xla"]
        ),
        "machine": st.sampled_from(
            [("a100-sxm-80gb", "fp16"), ("h100-sxm", "bf16"), ("h100-sxm", "fp8"),
             ("gb200-nvl72", "mxfp8"), ("b200-sxm", "nvfp4"), ("rtx-3090", "bf16")]
        ),
        "pp": st.integers(1, 8),
        "vpp": st.integers(1, 4),
        "dp_replicate": st.integers(1, 64),
        "dp_shard": st.integers(1, 1024),
        "cp": st.sampled_from([1, 2, 4]),
        "tp": st.sampled_from([1, 2, 4, 8]),
        "ep": st.sampled_from([1, 2, 8]),
        "etp": st.sampled_from([1, 2]),
        "micro_batch": st.integers(1, 4),
        "schedule": st.integers(0, 7),
        "sequence_parallel": st.integers(0, 1),
        "recompute": st.integers(0, 3),
        "recompute_layers": st.sampled_from([-1, 2]),
        "zero": st.integers(0, 3),
        "prefetch": st.integers(0, 2),
        "tp_overlap": st.integers(0, 1),
        "offload_optimizer": st.sampled_from([0.0, 0.5]),
        "offload_activations": st.sampled_from([0.0, 0.25]),
        "end_slots": st.integers(0, 1),
        "mtp": st.sampled_from([0.0, 1.0]),
        "imbalance": st.sampled_from([1.0, 1.3]),
    }
)  # fmt: skip


def built(make_job, drawn):
    """Return the job of one drawn candidate; its batch is a whole number of micro-batches."""
    layout = dict(drawn)
    gpu, precision = layout.pop("machine")
    batch = 8.0 * layout["dp_replicate"] * layout["dp_shard"] * layout["micro_batch"]
    return make_job(gpu=gpu, precision=precision, global_batch=batch, **layout)


def answers(job):
    """Return every number the cost model says of a job, by name."""
    ops = operations(job)
    time, held = step_time(job, C, ops), memory(job, ops)
    return {
        "step": time.step_s, "model FLOPs": time.model_flops,
        "hardware FLOPs": time.hardware_flops, "peak": held.peak_bytes, "fits": held.fits,
        **{f"time {name}": part for name, part in time.parts.items()},
        **{f"memory {name}": part for name, part in held.parts.items()},
    }  # fmt: skip


def test_the_parts_of_every_published_run_are_its_step(published):
    total = sum(published.time.parts.values())
    np.testing.assert_allclose(total, published.time.step_s, rtol=1e-9)
    assert len(published.measured_s) == 1062


def test_no_part_of_a_published_run_is_negative_or_unknown(published):
    for name, part in published.time.parts.items():
        assert np.isfinite(part).all(), name
        assert np.min(part) >= 0, name


@given(drawn=st.lists(candidates, min_size=2, max_size=6))
def test_candidates_priced_together_are_priced_alone(make_job, drawn):
    jobs = [built(make_job, one) for one in drawn]
    together = answers(stack_columns(jobs))
    alone = [answers(job) for job in jobs]
    for name, value in together.items():
        column = np.broadcast_to(value, (len(jobs),))
        each = [float(one.get(name, 0.0)) for one in alone]
        assert np.isfinite(column).all(), name
        np.testing.assert_allclose(column, each, rtol=1e-9, atol=1e-12, err_msg=name)


@given(drawn=candidates)
def test_one_candidate_is_a_column_of_one(make_job, drawn):
    job = built(make_job, drawn)
    scalar, column = answers(job), answers(stack_columns([job]))
    assert scalar.keys() == column.keys()
    for name, value in scalar.items():
        assert np.size(value) == np.size(column[name]) == 1
        np.testing.assert_allclose(
            np.ravel(value), np.ravel(column[name]), rtol=1e-13, atol=1e-12, err_msg=name
        )


@given(drawn=candidates)
def test_parts_add_up_on_any_layout(make_job, drawn):
    job = built(make_job, drawn)
    time = step_time(job, C)
    assert float(sum(time.parts.values())) == pytest.approx(float(time.step_s), rel=1e-9)
    assert min(float(part) for part in time.parts.values()) >= -1e-12 * float(time.step_s)


@given(drawn=candidates)
def test_the_model_flops_are_three_forwards_over_the_gpus(make_job, drawn):
    job = built(make_job, drawn)
    time = step_time(job, C)
    tokens = job.global_batch * job.seq_len
    forward = forward_flops_per_token(job.shape, job.seq_len, job.mtp)
    expected = 3 * forward * tokens / job.layout.gpus
    assert float(time.model_flops) == pytest.approx(float(expected), rel=1e-12)
    assert time.hardware_flops >= time.model_flops


def test_twice_the_batch_takes_twice_the_running_time_and_one_bubble(make_job):
    once, twice = (
        step_time(make_job(pp=4, dp_shard=4, global_batch=batch), C) for batch in (64.0, 128.0)
    )
    assert float(twice.parts["bubble"]) == pytest.approx(float(once.parts["bubble"]))
    assert float(twice.parts["optimizer"]) == pytest.approx(float(once.parts["optimizer"]))
    assert float(twice.parts["products"]) == pytest.approx(2 * float(once.parts["products"]))


def test_switching_overlap_off_never_helps(published):
    """Except where hiding would disturb compute more than it saves: not with these constants."""
    job = published.job
    exposed = step_time(replace(job, stack=without_overlap(job.stack)), C)
    assert (exposed.step_s >= published.time.step_s * (1 - 1e-9)).all()


def test_blocking_launches_add_host_and_device_time(make_job):
    free, blocked = (
        step_time(make_job("bloom-176b", stack=stack, tp=4, pp=12, dp_shard=8), C)
        for stack in ("megatron-deepspeed", "bigscience-2022")
    )
    assert float(blocked.parts["host"]) > float(free.parts["host"])
    assert stack_of("bigscience-2022").launch_blocking == 1


def test_offloaded_activations_are_paid_for_each_micro_batch(make_job):
    few, many = (
        step_time(make_job(global_batch=batch, offload_activations=1.0), C) for batch in (8.0, 64.0)
    )
    assert float(few.parts["offload"]) > 0
    assert float(many.parts["offload"]) == pytest.approx(8 * float(few.parts["offload"]))


@pytest.mark.parametrize(
    ("schedule", "layers"), [("1f1b", 6), ("zb-v", 7), ("dualpipe-v", 7), ("interleaved", 6)]
)
def test_the_rank_with_the_head_has_what_layers_are_left(make_job, schedule, layers):
    """126 on 16 ranks: 8 each and 6 at the end; a V's first rank has 4 and, at the end, 3."""
    job = make_job("llama-3.1-405b", pp=16, tp=8, schedule=schedule_code(schedule))
    assert layers_with_head(job) == layers


def test_a_v_has_embedding_and_head_on_one_rank(make_job):
    def slowest(schedule):
        job = make_job(pp=4, schedule=schedule_code(schedule))
        total = tally(operations(job), pricer_of(job, C))
        device = total.compute
        return total, device, stages(job, total, 0.0, C)

    total, device, folded = slowest("zb-v")
    _, _, line = slowest("1f1b")
    _, _, both = slowest("dualpipe")
    ends = float(total.first + total.last)
    assert float(folded.slowest - folded.layers) == pytest.approx(ends, rel=0.05)
    assert float(line.slowest - line.layers) == pytest.approx(float(total.last), rel=0.05)
    assert float(both.slowest - both.layers) == pytest.approx(ends / 2, rel=0.05)
    assert float(device) <= float(folded.layers)
    for at in (folded, line, both):
        assert float(at.whole) == pytest.approx(4 * float(folded.layers) + ends, rel=0.01)


@given(drawn=candidates)
def test_a_rank_is_no_slower_than_the_slowest(make_job, drawn):
    job = built(make_job, drawn)
    total = tally(operations(job), pricer_of(job, C))
    at = stages(job, total, sum(exposed_messages(job, total, C).values()), C)
    assert float(at.layers) <= float(at.slowest) * (1 + 1e-9)
    assert float(at.whole) <= float(at.slowest * job.layout.pp) * (1 + 1e-9)


def test_a_hidden_message_costs_its_interference_and_what_is_left():
    cover = C.compute_hides * 10.0
    assert hide(1.0, 10.0, 0.0, C) == 1.0
    assert hide(1.0, 10.0, 1.0, C) == pytest.approx(C.interference)
    assert hide(cover + 2.0, 10.0, 1.0, C) == pytest.approx(2.0 + C.interference * cover)


@given(device=st.floats(1e-6, 10.0), host=st.floats(1e-6, 10.0))
def test_host_and_device_together_take_the_longer_and_at_most_both(device, host):
    ahead = host_and_device(device, host, 0.0)
    assert max(device, host) * (1 - 1e-9) <= ahead <= device + host
    assert host_and_device(device, host, 1.0) == pytest.approx(device + host)
