"""Islands that train alone and join now and then: time kept, bytes sent, learning lost."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from crore.cost.arrays import Num
from crore.cost.goodput import availability, mean_time_between_failures_s
from crore.errors import UnknownName

Policy = Literal["barrier", "quorum", "free"]
POLICIES: Final[tuple[Policy, ...]] = ("barrier", "quorum", "free")
"""When a round ends: with the last island, with nine in ten, or for each island by itself."""
QUORUM: Final = 0.9
"""Share of the islands a quorum waits for; the others are merged by the tokens they have."""
OUTAGE_S: Final = 6 * 3600.0
"""A site's absence when its power or network fails; estimate, as is the next."""
OUTAGE_EVERY_S: Final = 90 * 86_400.0
"""Between two such absences of one site."""
OUTAGE_TIMEOUT: Final = 0.1
"""Of a round, how long a barrier waits for a site before it goes on without it; estimate."""
DATA_PARALLEL: Final = (18.129, 0.0953)
"""(A, α) of the loss `A·N^-α` of data-parallel training, 35 M to 10 B parameters at 20 tokens each.

Recalled from arXiv 2503.09799, as are the next two."""
DILOCO: Final = ((18.768, 0.0969), (19.762, 0.0992), (21.051, 0.1018))
"""The same of DiLoCo with 2, 4 and 8 islands."""
JOINT: Final = (19.226, 0.0985, 0.0116)
"""(A, α, β) of the joint law `A·N^-α·M^β` over 1 to 8 islands."""
LOSS_PER_COMPUTE: Final = 0.0477
"""Exponent of the loss in compute, C = 6·N·20·N: half of α."""
MEASURED_PARAMETERS: Final = (3.5e7, 1e10)
"""Smallest and largest model of those laws; below the smallest nothing is continued."""
GUESS: Final = (0.66, 0.9, 1.05)
"""(low, middle, high) φ of 20 to 100 islands at 30 T parameters: an estimate.

Nobody measured more than 8 islands above 10 B. Low is the joint law of 20 islands at 10 B, the
middle that law at 1 T, the high a small gain as the laws of 2 to 8 islands all show beyond 10 B."""
GUESS_AT: Final = (3e13, 20.0)
"""(parameters, islands) from which the guess holds."""
BLOCK_VALUES: Final = 128
"""Values of an outer gradient below 16 bits that share one scale: the largest of them decides the
step of all, so few; but each scale is sent, so not too few: 4 bits become 4.125."""
SCALE_BITS: Final = 16
"""Of such a scale: bfloat16, which has the range of the values."""
LARGE_MEAN: Final = 400.0
"""Poisson counts of larger means are those of this mean, shifted and stretched: both are nearly
normal, and the mean and the variance are kept (largest of 100: within 0.1 %)."""


def islands_goodput(
    gpus: Num,
    islands: Num,
    world_gpus: Num,
    round_s: Num,
    policy: Policy,
    *,
    stall_s: Num,
    absent_s: Num,
    hazard: Num = 1.0,
) -> Num:
    """Share of the tokens of a fleet without failures that `islands` islands train.

    A failure stalls its island for `stall_s` and takes its world of `world_gpus` away for
    `absent_s`; islands join after `round_s` seconds of work each. A round ends, beyond `round_s`,
    after S times the expected largest of M Poisson counts (barrier), the count nine islands in ten
    stay within (quorum), or each island's own (free: exact, renewal-reward). Jitter between islands
    is `local_steps_slowdown`'s. UnknownName for another policy.
    """
    if policy not in POLICIES:
        raise UnknownName("policy", policy, POLICIES)
    mean = round_s / mean_time_between_failures_s(gpus / islands, hazard)
    share = availability(world_gpus, absent_s, hazard) / (1 + OUTAGE_S / OUTAGE_EVERY_S)
    relative = stall_s / round_s
    free = 1 + relative * mean
    if policy == "free":
        return share / free
    outage = 1 - np.exp(-(islands - 1) * round_s / OUTAGE_EVERY_S)
    barrier = 1 + relative * expected_largest(mean, islands) + OUTAGE_TIMEOUT * outage
    if policy == "barrier":
        return share / barrier
    return share * _quorum(mean, islands, relative, barrier, free)


def expected_largest(mean: Num, draws: Num) -> Num:
    """Expected largest of `draws` Poisson counts of `mean`: `Σ 1 - F(k)^M` over k = 0, 1, ..."""
    alone = np.equal(draws, 1)
    near, shift, stretch = _near(np.where(alone, 0.0, mean))
    total: Num = 0.0
    for _, _, cdf in _poisson(near):
        total = total + 1 - cdf**draws
    return np.where(alone, mean, shift + stretch * total)


def _quorum(mean: Num, islands: Num, relative: Num, barrier: Num, free: Num) -> Num:
    """Rate of a round that ends with nine islands in ten, over an undisturbed one."""
    late = islands - np.ceil(QUORUM * islands)
    nobody = np.less(late, 1)
    near, shift, stretch = _near(np.where(nobody, 0.0, mean))
    beyond: Num = 0.0
    for _, _, cdf in _poisson(near):
        beyond = beyond + 1 - _at_most(late, islands, 1 - cdf)
    ends = 1 + relative * (shift + stretch * beyond)
    kept: Num = 0.0
    for count, pmf, _ in _poisson(near):
        late_s = relative * np.maximum(shift + stretch * count, 0.0)
        kept = kept + pmf * np.minimum(1.0, ends / (1 + late_s))
    # The mean over rounds is a little above the long-run rate, and the approximation may be below.
    return np.where(nobody, 1 / barrier, np.clip(kept / ends, 1 / barrier, 1 / free))


def _at_most(late: Num, islands: Num, chance: Num) -> NDArray[np.float64]:
    """P(Binomial(M, p) <= k), by Camp and Paulson's normal approximation (Johnson, Kotz 1969)."""
    p = np.clip(chance, 1e-15, 1 - 1e-15)
    k = np.maximum(late, 1.0)
    rest = np.maximum(islands - k, 1.0)
    a, b = 1 / (9 * rest), 1 / (9 * (k + 1))
    root = np.cbrt((k + 1) * (1 - p) / (rest * p))
    z = ((1 - b) * root - (1 - a)) / np.sqrt(b * root**2 + a)
    # Page's logistic form of the normal distribution (Applied Statistics 26, 1977): within 2e-4.
    share: NDArray[np.float64] = 1 / (1 + np.exp(-np.clip(1.5976 * z + 0.07056 * z**3, -700, 700)))
    return share


def _near(mean: Num) -> tuple[Num, Num, Num]:
    """Return (mean, shift, stretch): counts of the first, so moved, are those of `mean`."""
    near = np.minimum(mean, LARGE_MEAN)
    stretch = np.sqrt(np.maximum(mean, LARGE_MEAN) / LARGE_MEAN)
    return near, np.where(stretch > 1, mean - stretch * near, 0.0), stretch


def _poisson(mean: Num) -> Iterator[tuple[int, NDArray[np.float64], NDArray[np.float64]]]:
    """Yield (k, P(X = k), P(X <= k)) as far as the largest mean reaches."""
    mean = np.asarray(mean, dtype=float)
    log, cdf = -mean, np.zeros_like(mean)
    top = float(mean.max(initial=0.0))
    for count in range(int(top + 12 * np.sqrt(top) + 40)):
        pmf = np.exp(log)
        cdf = np.minimum(cdf + pmf, 1.0)
        yield count, pmf, cdf
        with np.errstate(divide="ignore"):
            log = log + np.log(mean) - np.log(count + 1)


def sent_bits(bits: Num) -> Num:
    """Bits sent per value of `bits`: below 16 its share of a block's scale is added."""
    return bits + np.where(np.less(bits, 16), SCALE_BITS / BLOCK_VALUES, 0.0)


def outer_bytes(parameters: Num, islands: Num, bits: Num) -> Num:
    """Bytes one island sends to join the others: reduce-scatter and all-gather, scales included.

    `2(M-1)/M·P·sent_bits/8`; `bits` per parameter: 16 for gradients, 4 for Streaming DiLoCo
    (arXiv 2501.18512).
    """
    return 2 * (islands - 1) / islands * parameters * sent_bits(bits) / 8


def outer_bytes_per_s(parameters: Num, islands: Num, bits: Num, round_s: Num) -> Num:
    """Bytes per second one island sends when a round's bytes are spread over all of it.

    Streaming sends fragments in turn while the islands work, so the peak is the average.
    """
    return outer_bytes(parameters, islands, bits) / round_s


def diloco_efficiency(parameters: Num, islands: Num) -> tuple[Num, Num, Num]:
    """Return (low, middle, high) φ: compute that counts of M islands' over data-parallel's.

    φ is the loss ratio to the power `-1/0.0477`. Up to 10 B parameters it is the DiLoCo laws'
    (arXiv 2503.09799, coefficients recalled), the joint one and that of M islands, 8 and more
    continued with the joint exponent. From there to 30 T it goes over to an estimate (`GUESS`).
    One island is exactly 1. A gain over it stays at the high end: no plan is chosen for one.
    """
    laws = _law_efficiency(np.clip(parameters, *MEASURED_PARAMETERS), islands)
    beyond = np.log(np.maximum(parameters / MEASURED_PARAMETERS[1], 1.0))
    weight = np.minimum(beyond / np.log(GUESS_AT[0] / MEASURED_PARAMETERS[1]), 1.0)
    few = np.minimum(np.log(islands) / np.log(GUESS_AT[1]), 1.0)
    # Few islands lose less than the guess, but may gain as much.
    shares = (few * weight, few * weight, weight)
    low, middle, high = (
        np.where(np.greater(islands, 1), law ** (1 - weight) * guess**share, 1.0)
        for law, guess, share in zip(laws, GUESS, shares, strict=True)
    )
    return np.minimum(low, 1.0), np.minimum(middle, 1.0), high


def _law_efficiency(parameters: Num, islands: Num) -> tuple[Num, Num, Num]:
    """Return (low, middle, high) φ by the laws, no more than the guess's gain."""
    log = np.log(parameters)
    base = np.log(DATA_PARALLEL[0]) - DATA_PARALLEL[1] * log
    joint = np.log(JOINT[0]) - JOINT[1] * log + JOINT[2] * np.log(islands)
    doublings = np.log2(islands)
    factors, exponents = np.array(DILOCO).T
    inside = np.clip(doublings, 1.0, 3.0)
    factor, exponent = (np.interp(inside, (1, 2, 3), x) for x in (np.log(factors), exponents))
    own = factor - exponent * log + JOINT[2] * np.log(2) * np.maximum(doublings - 3, 0.0)
    pair = [np.exp((base - law) / LOSS_PER_COMPUTE) for law in (joint, own)]
    low, high = (np.minimum(f(*pair), GUESS[2]) for f in (np.minimum, np.maximum))
    return low, np.sqrt(low * high), high
