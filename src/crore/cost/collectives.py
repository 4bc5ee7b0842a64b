"""Time of one collective, by algorithm, with latency that grows with group size and tier.

`S` is the full buffer in bytes (what a rank holds after an all-gather, before a reduce-scatter),
`n` ranks of which `g` share a scale-up domain, `B` bytes/s per rank and direction, `alpha` seconds
per step. Formulas: Thakur et al. 2005 (ring, recursive doubling), NCCL's tuning model (tree), and
hierarchical composition RS inside, AR across, AG inside. Contention outside the job is left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np

from crore.cost.arrays import Bool, Num, present

RING_RANKS: Final = 8


@dataclass(frozen=True, kw_only=True)
class Group:
    """A process group on two tiers; every field a float or `[N]`."""

    ranks: Num
    inner: Num
    """Ranks of the group that share a scale-up domain."""
    inner_bytes_per_s: Num
    outer_bytes_per_s: Num
    """Network bandwidth of one rank."""
    inner_latency_s: Num
    outer_latency_s: Num

    multicast: Bool = False
    """True where the scale-up switches reduce and multicast (NVLink SHARP)."""

    @cached_property
    def outer(self) -> Num:
        """Domains the group spans."""
        return np.maximum(self.ranks / self.inner, 1.0)

    @cached_property
    def rate(self) -> Num:
        """Bytes/s per rank of a hierarchical collective: the slower of its tiers."""
        across = np.minimum(self.inner * self.outer_bytes_per_s, self.inner_bytes_per_s)
        return np.where(np.greater(self.outer, 1), across, self.inner_bytes_per_s)

    @cached_property
    def gather_latency_s(self) -> tuple[Num, Num]:
        """Latency of a gather inside domains, and across in a ring or by recursive doubling."""
        across = np.minimum(
            ring(0.0, self.outer, 1.0, self.outer_latency_s),
            recursive_doubling(0.0, self.outer, 1.0, self.outer_latency_s),
        )
        return switched_steps(self.inner) * self.inner_latency_s, across


def ring(buffer_bytes: Num, ranks: Num, bytes_per_s: Num, latency_s: Num) -> Num:
    """Ring reduce-scatter or all-gather: `(n-1)·alpha + (n-1)/n·S/B`; an all-reduce is two."""
    steps = ranks - 1
    return steps * latency_s + steps / ranks * buffer_bytes / bytes_per_s


def recursive_doubling(buffer_bytes: Num, ranks: Num, bytes_per_s: Num, latency_s: Num) -> Num:
    """Recursive doubling (halving): `log2(n)·alpha + (n-1)/n·S/B`."""
    return np.log2(ranks) * latency_s + (ranks - 1) / ranks * buffer_bytes / bytes_per_s


def double_tree(buffer_bytes: Num, ranks: Num, bytes_per_s: Num, latency_s: Num) -> Num:
    """Double binary tree all-reduce: `2·log2(n)·alpha + 2·S/B`."""
    return 2 * np.log2(ranks) * latency_s + 2 * buffer_bytes / bytes_per_s


def in_switch(buffer_bytes: Num, ranks: Num, bytes_per_s: Num, latency_s: Num) -> Num:
    """In-switch all-reduce (NVLS): `2·alpha + (1 + 1/n)·S/B`."""
    return 2 * latency_s + (1 + 1 / ranks) * buffer_bytes / bytes_per_s


def switched_steps(ranks: Num) -> Num:
    """Latencies of a gather inside one switched domain: `n - 1` up to RING_RANKS, then logarithmic.

    Domains of eight are what nearly all calibration runs used; larger groups are gathered in a
    logarithmic number of steps (NCCL 2.23 release notes, PAT algorithm).
    """
    grown = (RING_RANKS - 1) * np.log2(np.maximum(ranks, 1.0)) / np.log2(RING_RANKS)
    return np.where(np.less_equal(ranks, RING_RANKS), ranks - 1, grown)


def gather_s(group: Group, buffer_bytes: Num) -> Num:
    """All-gather or reduce-scatter on two tiers, pipelined: the slower tier sets the rate.

    Inside a domain every rank has its link and `switched_steps` of latency; across, the `inner`
    ranks of a domain drive their NICs together (`inner·B_nic`, never above the scale-up rate) in a
    ring or by recursive doubling, whichever starts sooner.
    """
    inside_s, across_s = group.gather_latency_s
    return ring(buffer_bytes, group.ranks, group.rate, 0.0) + inside_s + across_s


def all_reduce_s(group: Group, buffer_bytes: Num) -> Num:
    """All-reduce by the fastest of: scatter and gather, a double tree, the switch of one domain.

    The library chooses by message size as this minimum does (NVIDIA/nccl src/graph/tuning.cc).
    """
    inside_s = double_tree(0.0, group.inner, 1.0, group.inner_latency_s)
    tree = double_tree(buffer_bytes, group.outer, group.rate, group.outer_latency_s) + inside_s
    best = np.minimum(2 * gather_s(group, buffer_bytes), tree)
    if not present(group.multicast):
        return best
    switch = in_switch(buffer_bytes, group.ranks, group.rate, group.inner_latency_s)
    usable = group.multicast & np.equal(group.outer, 1)
    return np.where(usable, np.minimum(best, switch), best)


def all_to_all_s(group: Group, buffer_bytes: Num, copies: Num = 1.0) -> Num:
    """All-to-all of `S` bytes per rank: the tier that carries the larger share of time decides.

    Peers inside the domain go by the scale-up network, the others by the rank's own NIC. When
    each token goes to `copies` ranks, a dispatcher sends it once per domain and forwards inside
    (DeepSeek-V3 §3.2): `D(1 - (1 - 1/D)^k)` domains of D see it, against k copies.
    """
    domains = group.outer
    distinct = domains * (1 - (1 - 1 / domains) ** copies)
    remote = distinct / np.maximum(copies, 1.0) * (domains - 1) / domains
    inside = (group.inner - 1) / group.inner * buffer_bytes / group.inner_bytes_per_s
    outside = remote * buffer_bytes / group.outer_bytes_per_s
    latency = np.where(np.greater(domains, 1), group.outer_latency_s, group.inner_latency_s)
    steps = np.log2(np.maximum(group.ranks, 1.0))
    total_s: Num = np.maximum(inside, outside) + latency * steps
    return total_s


def point_to_point_s(group: Group, message_bytes: Num) -> Num:
    """One message between neighbours of the group, over the network where the group spans it."""
    remote = np.greater(group.outer, 1)
    rate = np.where(remote, group.outer_bytes_per_s, group.inner_bytes_per_s)
    latency = np.where(remote, group.outer_latency_s, group.inner_latency_s)
    return message_bytes / rate + latency


def receive_s(group: Group, message_bytes: Num) -> Num:
    """Nothing: a message's time is its sender's, and what is received comes while one sends."""
    del group
    return 0.0 * message_bytes


COLLECTIVES = {
    "all_gather": gather_s,
    "reduce_scatter": gather_s,
    "all_reduce": all_reduce_s,
    "p2p": point_to_point_s,
    "receive": receive_s,
}
