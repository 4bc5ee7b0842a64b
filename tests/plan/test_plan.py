"""A plan's numbers hang together: parts, rates, days, and what is asked of an answer."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from crore.plan import Limits, PlanRequest, make_plan
from crore.plan.best import family_of

LLAMA = PlanRequest(
    model="llama-3.1-405b", gpu="h100-sxm", gpus=16384, tokens=15_600_000_000_000, seq_len=8192,
    global_batch=2048,
)  # fmt: skip
SMALL = PlanRequest(model="llama3-8b", gpu="h100-sxm", gpus=8, tokens=10**12, global_batch=64)
# One outer step after every inner one: more than hides behind it.
ISLANDS = replace(
    SMALL, gpus=64, wan="wan-ocean", stack="crore", limits=Limits(world_gpus=16),
    fix={"islands": 2, "interval": 1, "outer_bits": 16},
)  # fmt: skip


@pytest.fixture(scope="module")
def llama():
    return make_plan(LLAMA).plan


@pytest.fixture(scope="module")
def small():
    return make_plan(SMALL).plan


@pytest.fixture(scope="module")
def fleet():
    return make_plan(ISLANDS).plan


@pytest.fixture(params=["llama", "small", "fleet"])
def plan(request):
    return request.getfixturevalue(request.param)


def test_llama3_on_16k_gpus_lands_where_meta_reported(llama):
    """Meta printed 400 TFLOP/s per GPU, 8,192-token sequences (arXiv 2407.21783 table 4)."""
    assert llama.model_flops_per_s / 1e12 == pytest.approx(400, rel=0.15)
    assert llama.step_time_s.evidence == "extrapolated"


def test_parts_add_up_to_the_step_and_to_the_memory(plan):
    assert sum(plan.step_split_s.values()) == pytest.approx(plan.step_time_s.value, rel=1e-9)
    assert sum(plan.memory_split_bytes.values()) == pytest.approx(plan.memory_bytes, rel=1e-9)
    assert min(plan.step_split_s.values()) >= 0
    assert min(plan.memory_split_bytes.values()) >= 0


def test_a_plan_fits_with_its_margin(plan):
    assert plan.memory_bytes * 1.04 <= plan.question.memory_bytes * (1 + 1e-12)


def test_the_gpus_are_the_layouts_and_the_rest_are_spares(plan):
    it = plan.layout
    each = it["tp"] * it["cp"] * it["pp"] * it["dp"]
    assert plan.gpus == each * plan.islands
    assert plan.gpus + plan.spares == plan.question.gpus
    assert it["dp"] * it["micro_batch"] * it["micro_batches"] * plan.islands * (
        plan.question.seq_len
    ) == pytest.approx(plan.global_batch_tokens)


def test_rates_follow_from_the_step(plan):
    step_s = plan.step_time_s.value
    assert plan.tokens_per_s == pytest.approx(plan.global_batch_tokens / step_s)
    peak = plan.question.accelerator.peak_flops["bf16"]
    assert plan.mfu == pytest.approx(plan.model_flops_per_s / peak)
    assert 0 < plan.mfu <= plan.hfu < 1


def test_days_are_tokens_over_rate_goodput_and_learning(plan):
    """The time waited for outer steps, spread over the steps between them, comes on top."""
    rounds, step_s = plan.rounds, plan.step_time_s.value
    waited = float(np.asarray(rounds.exposed_s)) / float(np.asarray(rounds.interval)) / step_s
    useful = plan.tokens_per_s / (1 + waited) * plan.goodput * plan.learning[1]
    assert plan.days.value == pytest.approx(plan.question.tokens / useful / 86_400, rel=1e-9)
    assert plan.run_s == pytest.approx(86_400 * plan.days.value)


def test_islands_that_meet_after_every_step_wait_for_each_other(fleet):
    assert (fleet.islands, fleet.recovery) == (2, "quorum")
    assert float(np.asarray(fleet.rounds.exposed_s)) > 0
    assert fleet.worlds >= 2 * fleet.islands


def test_the_run_is_priced_as_the_search_prices_it(small, fleet):
    """Nothing is chosen for eight GPUs of one server, so the network changes nothing."""
    from crore.plan.network import run_on

    assert small.run_s == pytest.approx(run_on(small.question, small.chosen), rel=1e-12)
    again = run_on(fleet.question, fleet.chosen, fleet.network.machine)
    assert fleet.run_s == pytest.approx(again, rel=1e-12)


def test_an_interval_holds_its_number(plan):
    for span in (plan.step_time_s, plan.days):
        assert span.low < span.value < span.high
    # Days are less sure than steps: islands may learn less, never more surely.
    days, step = plan.days, plan.step_time_s
    assert days.high / days.value >= step.high / step.value * (1 - 1e-12)


def test_failures_come_in_inverse_proportion_to_gpus(llama, small):
    """419 failures in 54 days of 16,384 GPUs: one every 3.1 h (arXiv 2407.21783 table 5)."""
    assert llama.mtbf_s / 3600 == pytest.approx(54 * 24 / 419, rel=0.01)
    assert small.mtbf_s / llama.mtbf_s == pytest.approx(16384 / 8)


def test_ten_million_gpus_as_one_world_do_not_work_and_the_plan_has_several():
    answer = make_plan(
        PlanRequest(
            model="dense-30t", gpu="gb200-nvl72", gpus=10**7, tokens=6 * 10**14, seq_len=4608,
            global_batch=277_760, precision="fp8",
        )
    )  # fmt: skip
    plan = answer.plan
    assert plan.mtbf_s == pytest.approx(18.2, rel=0.02)
    assert plan.goodput_by_policy["restart from disk"] < 0.01
    assert plan.goodput_by_policy["restart from peers' memory"] == pytest.approx(0.18, abs=0.01)
    assert plan.goodput > 0.9
    assert plan.worlds > plan.islands > 1
    assert plan.gpus / plan.worlds <= 10_000
    assert plan.spares < 0.01 * 10**7
    assert plan.step_time_s.evidence == "extrapolated"


def test_an_answer_does_not_depend_on_the_order_of_pins():
    first, second = (make_plan(replace(SMALL, fix=fix)).plan
                     for fix in ({"tp": 2, "pp": 2}, {"pp": 2, "tp": 2}))  # fmt: skip
    assert first.layout == second.layout
    assert (first.layout["tp"], first.layout["pp"]) == (2, 2)


def test_the_top_plans_really_differ_and_the_best_comes_first():
    answer = make_plan(replace(SMALL, top=4))
    assert len(answer.plans) == 4
    assert len({family_of(plan.chosen) for plan in answer.plans}) == 4
    times = [plan.run_s for plan in answer.plans]
    assert times == sorted(times)
    assert answer.plan.layout == make_plan(SMALL).plan.layout


def test_a_search_says_what_it_priced_and_why_the_rest_fell():
    answer = make_plan(SMALL)
    assert 0 < answer.evaluated < answer.candidates
    assert all(count > 0 for count in answer.rejected.values())
    assert sum(answer.rejected.values()) < answer.candidates
    assert answer.search_cpu_s >= 0
    assert not answer.interrupted


def test_an_interrupted_search_answers_with_the_best_so_far():
    def stop(_share, found):
        if found.ranked:
            raise KeyboardInterrupt

    answer = make_plan(LLAMA, stop)
    assert answer.interrupted
    assert answer.plan.run_s >= make_plan(LLAMA).plan.run_s
    assert answer.evaluated <= make_plan(LLAMA).evaluated


def test_narrow_formats_are_measured_against_both_peaks():
    plan = make_plan(replace(SMALL, precision="fp8")).plan
    assert plan.mfu_half == pytest.approx(2 * plan.mfu, rel=1e-3)
