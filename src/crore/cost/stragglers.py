"""What waiting for the slowest rank costs, growing with the number of ranks."""

from __future__ import annotations

import numpy as np

from crore.cost.arrays import Num

STEP_NOISE = 0.004
"""Standard deviation of one rank's step over its mean, independent between ranks.

Not fitted. Published weak scaling from 8 to 512 H100 is flat within 2 % (NVIDIA DGX Cloud
rows), and the slowest of 512 is 3 deviations out; persistent stragglers are left out."""
EULER = 0.5772


def expected_maximum(ranks: Num) -> Num:
    """Expected maximum of N standard normals, `b - (ln ln N + ln 4π)/2b + 0.577/b`, b = √(2 ln N).

    3.99 at 16,384, 4.88 at a million, 5.31 at ten million; 0 for one rank or two.
    """
    log = np.log(np.maximum(ranks, 3.0))
    b = np.sqrt(2 * log)
    value = b - (np.log(log) + np.log(4 * np.pi)) / (2 * b) + EULER / b
    return np.where(np.greater(ranks, 2), value, 0.0)


def barrier_slowdown(ranks: Num, noise: float = STEP_NOISE) -> Num:
    """Step time over that of an average rank when every step waits for all."""
    return 1 + noise * expected_maximum(ranks)


def local_steps_slowdown(ranks: Num, steps: Num, noise: Num = STEP_NOISE) -> Num:
    """Slow-down of ranks that wait for the slowest once every `steps` steps instead of each step.

    Noise that is independent from step to step averages out, `1/√H`. A rank that is always slow is
    not in it: that one is to be replaced.
    """
    return 1 + noise / np.sqrt(steps) * expected_maximum(ranks)
