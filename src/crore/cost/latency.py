"""The shortest a training step can be, whatever the bandwidth: latencies that follow each other."""

from __future__ import annotations

from typing import Final

from crore.cost.arrays import Num

COLLECTIVE_S: Final = 15e-6
"""One small collective of a scale-up domain, launch included; estimate (NCCL's base latencies and
hops, src/graph/tuning.cc, give 5-20 us)."""
KERNEL_S: Final = 5e-6
"""One kernel that waits for the one before; estimate (2-5 us on CUDA streams, and its own time)."""
HOP_S: Final = 20e-6
"""One message between pipeline stages; estimate (NIC, two switches and the host's hand-over)."""
PASSES: Final = 3
"""Forward, gradient of the inputs, gradient of the weights."""
COLLECTIVES_PER_LAYER: Final = 4
"""Gather and scatter around attention and around the feed-forward (arXiv 2205.05198)."""
KERNELS_PER_LAYER: Final = 6
"""The fewest dependent kernels: norm and product in, attention, product out, two more products."""


def latency_floor_s(
    layers: Num,
    pp: Num,
    *,
    collective_s: Num = COLLECTIVE_S,
    kernel_s: Num = KERNEL_S,
    hop_s: Num = HOP_S,
) -> Num:
    """Seconds no step goes below: `3·L·(4·collective + 6·kernel) + 2·p·hop`; 69 ms for 250 over 32.

    One sequence's way through `layers` layers on `pp` stages and back, every message and kernel
    taking its latency alone (after arXiv 2411.01137, which calls it the latency wall).
    """
    layer = COLLECTIVES_PER_LAYER * collective_s + KERNELS_PER_LAYER * kernel_s
    return PASSES * layers * layer + 2 * pp * hop_s
