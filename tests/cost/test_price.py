"""One operation takes what the machine sustains: tiles, waves, bandwidth, latency."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crore.catalog import load_catalog
from crore.cost import fitted_constants, machine_of, operations
from crore.cost.operations import Gemm, Operation
from crore.cost.price import KERNEL_GAP_S, MISALIGNED, Pricer, gemm_s, rates_of, score_slowdown

C = fitted_constants()
CATALOG = load_catalog()
GPUS = sorted(CATALOG.accelerators())


def rates(make_job, gpu="h100-sxm", precision="bf16", **job):
    """Return (machine, rates) of a job on this accelerator."""
    built = make_job(gpu=gpu, precision=precision, **job)
    return built.machine, rates_of(built, C)


def square(n, **fields):
    """A product of [n, n] by [n, n]."""
    return Gemm(m=float(n), n=float(n), k=float(n), **fields)


def test_a_large_product_runs_at_the_sustained_rate(make_job):
    machine, sustained = rates(make_job)
    seconds = gemm_s(square(16_384), machine, sustained, C)
    reached = 2 * 16_384**3 / seconds
    assert reached == pytest.approx(sustained.linear_flops_per_s, rel=0.1)
    assert reached < machine.linear_peak


@pytest.mark.parametrize("gpu", GPUS)
def test_no_part_exceeds_its_peak(gpu, make_job):
    precision = next(p for p in ("bf16", "fp16", "fp32") if _has(gpu, p))
    machine, sustained = rates(make_job, gpu=gpu, precision=precision)
    for n in (512, 4096, 16_384):
        assert 2 * n**3 / gemm_s(square(n), machine, sustained, C) < machine.linear_peak


def _has(gpu, precision):
    return CATALOG.accelerator(gpu).peak_flops.get(precision, 0) > 0


@given(
    m=st.integers(1, 16_384), n=st.integers(1, 2048), k=st.integers(1, 2048),
    groups=st.integers(1, 64), times=st.integers(2, 8),
)  # fmt: skip
def test_more_rows_never_take_less(make_job, m, n, k, groups, times):
    machine, sustained = rates(make_job)
    less = Gemm(m=float(m), n=8.0 * n, k=8.0 * k, groups=float(groups))
    more = replace(less, m=float(m * times))
    assert gemm_s(more, machine, sustained, C) >= gemm_s(less, machine, sustained, C) * (1 - 1e-12)


@given(m=st.integers(1, 4096), n=st.integers(1, 4096), k=st.integers(1, 4096))
def test_no_product_beats_its_operands_traffic(make_job, m, n, k):
    machine, sustained = rates(make_job)
    traffic = 2.0 * (m * k + k * n + m * n) / machine.memory_bytes_per_s
    assert gemm_s(Gemm(m=float(m), n=float(n), k=float(k)), machine, sustained, C) > traffic


def test_every_expert_reads_its_own_weights(make_job):
    machine, sustained = rates(make_job)
    thin = Gemm(m=8.0, n=4096.0, k=4096.0, groups=64.0)
    weights = 2.0 * 64 * 4096 * 4096 / machine.memory_bytes_per_s
    assert gemm_s(thin, machine, sustained, C) > weights


def test_rows_that_are_no_multiple_of_16_bytes_run_slower(make_job):
    machine, sustained = rates(make_job)
    even = gemm_s(Gemm(m=4096.0, n=4096.0, k=4096.0), machine, sustained, C)
    odd = gemm_s(Gemm(m=4096.0, n=4096.0, k=4095.0), machine, sustained, C)
    assert odd / even == pytest.approx(MISALIGNED, rel=0.01)


def test_small_experts_run_far_below_the_peak(make_job):
    """Fewer than 512 tokens an expert keep a part's multipliers waiting (arXiv 2412.19437 §3.2)."""
    machine, sustained = rates(make_job)
    few = Gemm(m=64.0, n=4096.0, k=7168.0, groups=32.0, experts=True)
    many = replace(few, m=4096.0)
    share = [gemm.flops / gemm_s(gemm, machine, sustained, C) / machine.half_peak
             for gemm in (few, many)]  # fmt: skip
    assert share[0] < 0.5 * share[1]


def test_eight_bits_multiply_faster_and_four_faster_still(make_job):
    flops = [
        float(rates(make_job, gpu="b200-sxm", precision=precision)[1].linear_flops_per_s)
        for precision in ("bf16", "fp8", "nvfp4")
    ]
    assert flops == sorted(flops)
    assert 1.5 < flops[1] / flops[0] < 2.6


def test_sixteen_bit_work_takes_the_same_in_any_format(make_job):
    pairs = [rates(make_job, precision=precision) for precision in ("bf16", "fp8")]
    times = [gemm_s(square(4096, half=True), machine, rate, C) for machine, rate in pairs]
    assert times[0] == times[1]


def test_a_part_short_of_power_loses_rate_with_the_square_root(make_job):
    job = make_job()
    ample = replace(job, machine=replace(job.machine, watts_per_tflops=C.ample_power))
    short = replace(job, machine=replace(job.machine, watts_per_tflops=C.ample_power / 4))
    ratio = rates_of(short, C).half_flops_per_s / rates_of(ample, C).half_flops_per_s
    assert ratio == pytest.approx(0.5)


def test_a_part_nobody_measured_is_given_a_share_of_its_peak(make_job):
    job = make_job()
    unknown = replace(job, machine=replace(job.machine, half_measured=0.0, linear_measured=0.0))
    rate = rates_of(unknown, C).linear_flops_per_s
    assert rate <= C.unmeasured_share * job.machine.linear_peak * C.gemm_share


def test_flash_attention_for_hopper_beats_the_one_before(make_job):
    new, old = (
        rates(make_job, stack=stack)[1].flash_flops_per_s for stack in ("megatron-2025", "fsdp")
    )
    assert new > 1.5 * old  # 740 against 350 TFLOP/s, arXiv 2407.08608


def test_the_unfused_softmax_falls_back_on_odd_shapes(make_job):
    """Megatron's kernel: heads x micro-batch on a rank in fours, at most 4,096 keys."""
    assert score_slowdown(make_job("gpt-22b", tp=8)) == 1
    assert score_slowdown(make_job("gpt-22b", tp=8, seq_len=8192.0)) > 1
    assert score_slowdown(make_job("gpt2-xl")) > 1  # 25 heads
    assert score_slowdown(make_job("gpt2-xl", micro_batch=4)) == 1


def test_a_transfer_goes_by_the_host_link(make_job):
    job = make_job()
    copy = Operation(name="copy", kind="transfer", message_bytes=1e9)
    assert Pricer(job, C).seconds(copy) == 1e9 / job.machine.host_bytes_per_s


def test_an_empty_pass_takes_its_launches_alone(make_job):
    op = Operation(name="nothing", kind="memory", launches=3.0)
    assert Pricer(make_job(), C).seconds(op) == pytest.approx(3 * KERNEL_GAP_S)


@pytest.mark.parametrize("model", ["deepseek-v3", "nemotron-h-56b", "gpt-22b"])
def test_every_operation_has_a_finite_price(model, make_job):
    stack = "megatron-2021" if model == "gpt-22b" else "nemo"
    job = make_job(model, stack=stack, tp=2, pp=2, dp_shard=8, recompute=3, mtp=1.0)
    pricer = Pricer(job, C)
    for op in operations(job):
        seconds = float(pricer.seconds(op))
        assert np.isfinite(seconds), op.name
        assert seconds >= 0, op.name


def test_machines_are_priced_side_by_side(make_job):
    parts = ["a100-sxm-80gb", "h100-sxm", "b200-sxm"]
    machines = [machine_of(CATALOG.accelerator(gpu), "bf16") for gpu in parts]
    times = [
        float(gemm_s(square(8192), machine, rates(make_job, gpu=gpu)[1], C))
        for gpu, machine in zip(parts, machines, strict=True)
    ]
    assert times == sorted(times, reverse=True)
