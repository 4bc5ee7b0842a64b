"""Watts at the meter: accelerators by what they do, their hosts and network, the building."""

from __future__ import annotations

from typing import Final

import numpy as np

from crore.cost.arrays import Num
from crore.errors import InputError

KWH_J: Final = 3.6e6
IDLE_SHARE: Final = 0.15
"""Of the board limit, what an accelerator draws while it waits; estimate, 0.1 to 0.2."""
MESSAGE_SHARE: Final = 0.45
"""Of the board limit, what it draws while it only sends; estimate, 0.4 to 0.5 (the swings of
arXiv 2508.14318)."""
IDLE_RANGE: Final = (0.10, IDLE_SHARE, 0.20)
"""IDLE_SHARE with its ends."""
MESSAGE_RANGE: Final = (0.40, MESSAGE_SHARE, 0.50)
"""MESSAGE_SHARE with its ends."""


def gpu_power_w(
    tdp_w: Num,
    busy_share: Num,
    comm_share: Num,
    idle: Num = IDLE_SHARE,
    message: Num = MESSAGE_SHARE,
) -> Num:
    """Average watts of one accelerator: `TDP·(busy + 0.45·comm + 0.15·(1 - busy - comm))`.

    `busy_share` and `comm_share` are the shares of the time it computes, at the board limit, and
    only communicates; the rest it idles. `idle` and `message` are what it draws then, as shares of
    the limit. InputError when the board limit is not known (0).
    """
    if np.any(np.less_equal(tdp_w, 0)):
        raise InputError("no board limit is known: give the accelerator's row a tdp_w over 0")
    idle_share = 1 - busy_share - comm_share
    return tdp_w * (busy_share + message * comm_share + idle * idle_share)


def site_power_w(gpus: Num, gpu_w: Num, *, host_w: Num, network_w: Num, pue: Num) -> Num:
    """Watts at the meter of `gpus` accelerators: `N·(gpu + host + network)·PUE`.

    `host_w` (processors, memory, NICs, fans, conversion) and `network_w` are per accelerator;
    the shipped ones come within 2 % of the meter readings of H100 and GB200 sites.
    """
    return gpus * (gpu_w + host_w + network_w) * pue


def energy_j(power_w: Num, duration_s: Num) -> Num:
    """Joules of `duration_s` at a constant `power_w`; KWH_J are a kWh."""
    return power_w * duration_s
