"""However wide the links, layers follow one another."""

from __future__ import annotations

import numpy as np
import pytest

from crore.cost.latency import latency_floor_s


def test_250_layers_over_32_stages_take_69_milliseconds():
    assert latency_floor_s(250, 32) == pytest.approx(0.0688, abs=1e-4)


def test_stages_add_their_messages_there_and_back():
    assert latency_floor_s(250, 33) - latency_floor_s(250, 32) == pytest.approx(40e-6)


def test_the_floor_grows_with_every_latency():
    base = latency_floor_s(126, 16)
    assert latency_floor_s(126, 16, collective_s=30e-6) > base
    assert latency_floor_s(126, 16, kernel_s=10e-6) > base
    assert latency_floor_s(126, 16, hop_s=40e-6) > base
    assert latency_floor_s(126, 16, collective_s=0, kernel_s=0, hop_s=0) == 0


def test_candidates_are_answered_side_by_side():
    floors = latency_floor_s(np.array([32, 126]), np.array([1, 16]))
    assert list(np.asarray(floors)) == [latency_floor_s(32, 1), latency_floor_s(126, 16)]
