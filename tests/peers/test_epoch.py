from __future__ import annotations

import numpy as np
import pytest
from tests.peers import epoch

from crore.cost import fitted_constants, memory, operations, stack_of
from crore.cost.layout import rules


@pytest.fixture(scope="module")
def cases():
    return list(epoch.cases())


def test_its_plan_and_its_arithmetic_are_understood():
    assert epoch.TP * epoch.PP * epoch.DP == epoch.GPUS
    flops = 6 * epoch.PARAMETERS * epoch.BATCH_TOKENS
    step_s = epoch.peer_step_s()
    assert flops / epoch.GPUS / epoch.PEAK / step_s == pytest.approx(epoch.UTILISATION, abs=0.0006)
    # Twenty tokens per parameter (Chinchilla); its months have 30.4 days.
    tokens = 20 * epoch.PARAMETERS
    assert 6 * epoch.PARAMETERS * tokens == pytest.approx(epoch.FLOPS, rel=0.001)
    months = tokens / epoch.BATCH_TOKENS * step_s / 86_400 / 30.4
    assert months == pytest.approx(epoch.MONTHS, abs=0.005)


def test_under_its_assumptions_the_utilisation_is_its_own():
    assert epoch.assumed().utilisation == pytest.approx(epoch.UTILISATION, rel=0.15)
    assert epoch.assumed().utilisation == pytest.approx(0.582, abs=0.001)


def test_messages_can_hide_behind_products_as_it_assumes():
    messages, products = epoch.messages_s()
    assert messages < products


def test_each_omission_made_good_costs_utilisation(cases):
    shares = [case.utilisation for case in cases]
    last = next(row for row, case in enumerate(cases) if case.stragglers)
    assert all(np.diff(shares[: last + 1]) < 0)
    # Whole sequences: fuller tiles and fewer passes outweigh a pipeline that never fills.
    assert shares[last] < shares[last + 1] < epoch.UTILISATION / 2


def test_all_of_our_model_is_on_at_the_end(cases):
    before = next(case for case in cases if case.stragglers)
    assert before.constants == fitted_constants()
    assert before.job.machine == epoch.own_machine()
    assert before.job.stack == stack_of("megatron-2025")


def test_the_plan_fits_the_memory(cases):
    for case in cases:
        held = memory(case.job, operations(case.job))
        assert held.peak_bytes < 0.5 * held.capacity_bytes


def test_neither_cut_of_the_batch_can_be_launched(cases):
    """A micro-batch of 448 tokens does not spread over 128 ranks, 14 do not fill 64 stages."""

    def broken(case):
        job = case.job
        found = rules(job.layout, job.shape, job.global_batch, epoch.GPUS, job.seq_len)
        return {reason for reason, mask in found if np.any(mask)}

    assert broken(cases[0]) == {"tp x cp does not divide the sequence"}
    assert broken(cases[-1]) == {"interleaving needs micro-batches in multiples of pp"}
