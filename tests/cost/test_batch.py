"""The largest useful batch is uncertain by sixty times, and a plan says so."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crore.cost.batch import batch_efficiency, critical_batch, critical_batches, hoffmann_loss

FLOPS = 1e29
PARAMETERS = (FLOPS / 120) ** 0.5
TOKENS = 20 * PARAMETERS


@pytest.mark.parametrize(
    ("law", "tokens"),
    [("kaplan", 15e6), ("deepseek", 890e6), ("steplaw", 160e6), ("bergsma", 640e6)],
)
def test_the_laws_at_1e29_flops(law, tokens):
    """20 tokens a parameter."""
    found = critical_batches(TOKENS, FLOPS, hoffmann_loss(PARAMETERS, TOKENS))[law]
    assert found == pytest.approx(tokens, rel=0.03)


@pytest.mark.parametrize(
    ("flops", "laws"),
    [(3.8e25, (1.1e7, 6.8e7, 1.6e7, 1.0e8)), (1e28, (1.4e7, 4.2e8, 8.1e7, 3.7e8)),
     (1e30, (1.5e7, 1.9e9, 3.0e8, 1.1e9))],
)  # fmt: skip
def test_the_laws_at_other_budgets(flops, laws):
    parameters = (flops / 120) ** 0.5
    tokens = 20 * parameters
    found = critical_batches(tokens, flops, hoffmann_loss(parameters, tokens))
    assert [float(x) for x in found.values()] == pytest.approx(laws, rel=0.05)


def test_chinchillas_own_loss():
    """70 B parameters on 1.4 T tokens: 1.94 nats by the law (arXiv 2203.15556)."""
    assert hoffmann_loss(70e9, 1.4e12) == pytest.approx(1.937, abs=0.001)


def test_a_run_gets_lowest_median_and_highest():
    low, middle, high = critical_batch(PARAMETERS, PARAMETERS, TOKENS)
    assert low == pytest.approx(15e6, rel=0.03)
    assert middle == pytest.approx((160e6 + 640e6) / 2, rel=0.02)
    assert high == pytest.approx(890e6, rel=0.01)


def test_a_mixture_of_experts_counts_its_active_parameters_alone():
    dense = critical_batch(671e9, 671e9, 14.8e12)
    sparse = critical_batch(671e9, 37.6e9, 14.8e12)
    assert sparse[2] <= dense[2]
    assert sparse[0] == dense[0]  # Kaplan's: by the loss


def test_the_critical_batch_wastes_every_second_token():
    assert batch_efficiency(1e6, 1e6) == 0.5
    assert batch_efficiency(0.2e6, 1e6) == pytest.approx(1 / 1.2)


@given(
    parameters=st.floats(1e7, 1e15), share=st.floats(0.01, 1), tokens=st.floats(1e9, 1e16),
    batch=st.floats(1e3, 1e10),
)  # fmt: skip
def test_the_range_is_ordered_and_never_helps_twice(parameters, share, tokens, batch):
    found = critical_batch(np.array([parameters]), np.array([share * parameters]), tokens)
    low, middle, high = np.asarray(found)[:, 0]
    assert 0 < low <= middle <= high
    assert 0 < batch_efficiency(2 * batch, middle) < batch_efficiency(batch, middle) < 1
