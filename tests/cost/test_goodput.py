"""A world that restarts whole loses its time to failures as it grows."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crore.cost.goodput import DISK, PEER_MEMORY, mean_time_between_failures_s, restart_goodput


def test_ten_million_gpus_fail_every_eighteen_seconds():
    assert mean_time_between_failures_s(1e7) == pytest.approx(18.2, abs=0.05)


def test_llama_3s_cluster_failed_every_three_hours():
    """419 unexpected interruptions in 54 days on 16,384 H100 (arXiv 2407.21783 §3.3.4)."""
    assert mean_time_between_failures_s(16_384.0) / 3600 == pytest.approx(3.09, abs=0.01)


@pytest.mark.parametrize("gpus", [16_384.0, 100_000.0, 1e6])
@pytest.mark.parametrize("case", [DISK, PEER_MEMORY])
def test_no_checkpoint_interval_does_better(gpus, case):
    checkpoint_s, restart_s = case
    mtbf = float(mean_time_between_failures_s(gpus))

    def goodput(tau):
        return tau / (mtbf * math.exp(restart_s / mtbf) * math.expm1((tau + checkpoint_s) / mtbf))

    tried = max(goodput(tau) for tau in np.geomspace(1e-3, 1e6, 20_000)
                if tau + checkpoint_s < 600 * mtbf)  # fmt: skip
    best = float(restart_goodput(gpus, checkpoint_s, restart_s))
    assert best == pytest.approx(tried, rel=1e-5)
    assert best >= tried * (1 - 1e-9)


def test_one_world_of_ten_million_that_restarts_makes_no_progress():
    assert float(restart_goodput(1e7, *DISK)) < 0.005
    assert float(restart_goodput(1e7, *PEER_MEMORY)) == pytest.approx(0.18, abs=0.01)


@given(gpus=st.floats(1.0, 1e7), more=st.floats(1.01, 10.0))
def test_more_gpus_never_waste_less(gpus, more):
    small, large = np.asarray(restart_goodput(np.array([gpus, gpus * more]), *PEER_MEMORY))
    assert 0 <= large <= small <= 1
