"""Watts at the meter come near those of sites that say theirs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crore.catalog import load_catalog, load_economics
from crore.cost.power import energy_j, gpu_power_w, site_power_w
from crore.errors import InputError

ECONOMICS = load_economics()


def per_gpu_w(gpu, case="value"):
    """Return W at the meter of one accelerator computing all the time."""
    host, network, pue = (
        getattr(ECONOMICS.figure(name), case) for name in ("host_w", "network_w", "pue")
    )
    board = gpu_power_w(load_catalog().accelerator(gpu).tdp_w, 1.0, 0.0)
    return site_power_w(1, board, host_w=host, network_w=network, pue=pue)


@pytest.mark.parametrize(
    ("gpu", "meter_w", "off"),
    [("h100-sxm", 1750, 0.0), ("gb200-nvl72", 2341, 0.0144), ("vr-nvl144", 3904, -0.1996)],
)
def test_the_meter_of_known_sites(gpu, meter_w, off):
    """GB200: 1 GW holds 5,932 racks of 72; Rubin 3,557 (Bernstein 2025); H100 an estimate.

    Rubin's announced rack draws 190 to 230 kW, far above 72 boards of 1.8 kW and this host.
    """
    assert per_gpu_w(gpu) / meter_w - 1 == pytest.approx(off, abs=0.001)


@pytest.mark.parametrize("gpu", ["h100-sxm", "gb200-nvl72", "vr-nvl144"])
def test_the_range_holds_the_meter(gpu):
    meter = {"h100-sxm": 1750, "gb200-nvl72": 2341, "vr-nvl144": 3904}[gpu]
    assert per_gpu_w(gpu, "low") < meter < per_gpu_w(gpu, "high")


def test_phases_draw_less_than_the_board_limit():
    assert gpu_power_w(1000.0, 1.0, 0.0) == 1000
    assert gpu_power_w(1000.0, 0.0, 1.0) == pytest.approx(450)
    assert gpu_power_w(1000.0, 0.0, 0.0) == pytest.approx(150)
    assert gpu_power_w(1000.0, 0.6, 0.3) == pytest.approx(600 + 135 + 15)


def test_a_board_without_a_limit_does_not_run_for_nothing():
    with pytest.raises(InputError, match="tdp_w"):
        gpu_power_w(0.0, 1.0, 0.0)


def test_half_a_million_gpus_swing_by_hundreds_of_megawatts():
    """Boards of 1.2 kW between computing and messages: 330 MW at every step."""
    swing = 5e5 * (gpu_power_w(1200.0, 1.0, 0.0) - gpu_power_w(1200.0, 0.0, 1.0))
    assert swing == pytest.approx(330e6)


def test_ten_million_gpus_use_56_terawatt_hours_in_100_days():
    assert energy_j(1e7 * 2341, 100 * 86_400) / 3.6e15 == pytest.approx(56.2, abs=0.05)


@given(tdp=st.floats(50, 2000), busy=st.floats(0, 1), share=st.floats(0, 1))
def test_an_average_lies_between_idle_and_the_limit(tdp, busy, share):
    watts = gpu_power_w(tdp, busy, (1 - busy) * share)
    assert 0.15 * tdp * (1 - 1e-9) <= watts <= tdp * (1 + 1e-9)
