"""One training step of up to ten million GPUs, each with a state of its own.

Under spraying a leaf's uplinks act as one fat link, so the network is a tree; what a GPU waits for
is then the slowest of its world and its island: barriers are maxima, phases are sums (max-plus).
Islands are drawn one after the other, so memory is that of the largest.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from crore.cost.arrays import Num
from crore.errors import InputError
from crore.simulate.fabric.components import (
    Frailty,
    Leaves,
    compute_factors,
    leaves_of,
    links_under,
    live_planes,
    some_of,
    worst_by_world,
)
from crore.simulate.fabric.network import Floats, Ints

CAUSES: Final = ("noise", "straggler", "dead plane", "dead switch", "dead uplink")
"""What an island waits for beyond an undisturbed step, in the order it is told apart."""
MAX_PLANES: Final = 62


@dataclass(frozen=True, kw_only=True, slots=True)
class FleetStep:
    """A fleet and its step as plain numbers; bytes are those one GPU sends in a step."""

    islands: int
    worlds: int
    """In all; islands differ by one world at most."""
    world_gpus: int
    domain_gpus: int = 1
    """GPUs of a scale-up domain; a ring over the network goes from domain to domain. A world may
    end within one."""
    compute_s: float
    """Compute and what happens inside a domain, of an average GPU."""
    world_bytes: float
    """Over the network to others of the world."""
    island_bytes: float = 0.0
    """Over the network to other worlds of the island."""
    hidden_s: float = 0.0
    """Of the network's time, what compute hides."""
    nic_bytes_per_s: float
    """Of a GPU, all planes together, one direction."""
    planes: int = 1
    leaf_gpus: int
    """GPUs under one leaf, with a link to it in each plane."""
    uplinks: int
    """Of a leaf in one plane, each as fast as a GPU's link to that plane; 0 for a single tier."""
    rails: int = 1
    """Leaves over which the GPUs of a domain are spread."""
    leaving: float = 1.0
    """Share of the network's bytes that leave their leaf."""
    outer_bytes: float = 0.0
    """What an island sends to the others in an outer step."""
    local_steps: int = 1
    """Steps between outer steps."""
    wan_bytes_per_s: float = 0.0
    """Of an island, all fibre pairs together; 0 without other islands."""
    wan_pairs: int = 1
    outer_hidden: float = 0.0
    """Share of the steps between that hides an outer step (1 when fragments stream)."""
    frailty: Frailty = field(default_factory=Frailty)

    def __post_init__(self) -> None:
        _check(self)

    @property
    def gpus(self) -> int:
        """GPUs of the fleet."""
        return self.worlds * self.world_gpus

    @property
    def island_worlds(self) -> Ints:
        """[islands], worlds of each."""
        base, more = divmod(self.worlds, self.islands)
        return base + (np.arange(self.islands) < more).astype(np.int64)


@dataclass(frozen=True, kw_only=True, slots=True)
class FleetStepResult:
    """How long the islands took, and what for. Arrays have one entry per island."""

    ideal_s: float
    """A step without jitter or failure."""
    island_s: Floats
    """A step of each island; infinite when it lost all its worlds."""
    delay_s: Mapping[str, Floats]
    """Cause -> seconds it adds after those named before it."""
    lost_worlds: Ints
    """Worlds that a GPU or leaf without any way out stopped; their island goes on without them."""
    outer_s: Floats
    """An outer step over the fibre pairs alive; infinite with none, 0 with nothing to send."""
    round_s: float
    """Local steps and outer step of the slowest island that is not cut off."""
    stragglers: int
    degraded_gpus: int
    """With a plane dead, by their own link or by their leaf's switch."""
    dead_leaf_switches: int
    dead_uplinks: int
    """Between live switches."""

    @property
    def step_s(self) -> float:
        """The slowest island's step."""
        return float(self.island_s.max())

    def quantile_s(self, share: float) -> float:
        """Seconds within which that share of the islands is done."""
        return float(np.quantile(self.island_s, share, method="inverted_cdf"))

    def slowed_by(self) -> dict[str, float]:
        """Cause -> share of the islands for which it is the largest delay."""
        table = np.stack([self.delay_s[cause] for cause in CAUSES])
        largest = np.where(table.max(axis=0) > 0, table.argmax(axis=0), -1)
        return {cause: float((largest == i).mean()) for i, cause in enumerate(CAUSES)}


@dataclass(frozen=True, kw_only=True, slots=True)
class States:
    """What was drawn for one island."""

    factors: NDArray[np.float32]
    """[GPUs], compute time over the mean, stragglers left out."""
    slow: Ints
    """Stragglers, rising."""
    links: Ints
    """Dead links of GPUs, `gpu·planes + plane`, rising."""
    leaves: Leaves
    under_dead: Ints
    """Links of GPUs to dead leaf switches, numbered as the dead ones."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Island:
    """The worst of each world of an island. Arrays have one entry per world."""

    jitter: Floats
    """Slowest compute over the mean, stragglers left out."""
    slowest: Floats
    """The same with stragglers."""
    links: Ints
    """Fewest planes two partners share by their own links."""
    planes: Ints
    """The same with leaf switches dead."""
    reachable: Floats
    """Fewest uplinks between live switches of a leaf the world is on, all planes together."""
    uplinks: Floats
    """Fewest uplinks alive."""
    counts: tuple[int, int, int, int]
    """Stragglers, GPUs with a plane dead, leaf switches and uplinks dead."""


def fleet_step(spec: FleetStep, seed: int = 0) -> FleetStepResult:
    """Return one step of the fleet with every component's state drawn from `seed`.

    A step waits for its slowest flow, and the slowest of max-min rates is the first level of their
    filling: the least capacity over load of any link. Island i's draws depend on `seed` and i
    alone. Left out: a flow also needs a switch above that is reached from the leaf it goes to, some
    thousandth fewer with the default frailty.
    """
    seeds = np.random.SeedSequence(seed).spawn(spec.islands)
    times, counts, outer_s, lost = [], [], [], []
    for own, worlds in zip(seeds, spec.island_worlds, strict=True):
        random = np.random.default_rng(own)
        island = _worst(spec, island_states(spec, random, int(worlds)), int(worlds))
        stopped = network_rate(spec, island.planes, island.uplinks) == 0
        times.append(_waterfall(spec, island, ~stopped))
        counts.append(island.counts)
        lost.append(int(stopped.sum()))
        outer_s.append(_outer_s(spec, random))
    by_level = np.array(times).T
    total = np.array(counts).sum(axis=0)
    ideal_s = _ideal_s(spec)
    return FleetStepResult(
        ideal_s=ideal_s,
        island_s=by_level[-1],
        delay_s=_delays(ideal_s, by_level),
        lost_worlds=np.array(lost, dtype=np.int64),
        outer_s=np.array(outer_s),
        round_s=_round_s(spec, by_level[-1], np.array(outer_s)),
        stragglers=int(total[0]),
        degraded_gpus=int(total[1]),
        dead_leaf_switches=int(total[2]),
        dead_uplinks=int(total[3]),
    )


def network_rate(spec: FleetStep, planes: Num, uplinks: Num) -> Floats:
    """Return bytes/s of a GPU with so many planes under a leaf with so many uplinks alive.

    The planes' share of its adapter, or its share of the leaf's uplinks over what leaves the leaf.
    """
    link = spec.nic_bytes_per_s / spec.planes
    own: Floats = np.asarray(planes * link, dtype=float)
    if spec.uplinks and spec.leaving:
        own = np.minimum(own, uplinks * link / (spec.leaf_gpus * spec.leaving))
    return own


def island_states(spec: FleetStep, random: np.random.Generator, worlds: int) -> States:
    """Draw the state of every component of an island of so many worlds."""
    gpus, frailty = worlds * spec.world_gpus, spec.frailty
    factors = compute_factors(random, gpus, frailty.noise)
    slow = some_of(random, gpus, frailty.straggler_share)
    links = some_of(random, gpus * spec.planes, frailty.dead_plane_share)
    count = -(-gpus // (spec.leaf_gpus * spec.rails)) * spec.rails
    leaves = leaves_of(random, count, spec.planes, spec.uplinks, frailty)
    under_dead = links_under(leaves.dead, spec.planes, spec.leaf_gpus, spec.rails, gpus)
    return States(factors=factors, slow=slow, links=links, leaves=leaves, under_dead=under_dead)


def _worst(spec: FleetStep, states: States, worlds: int) -> _Island:
    jitter = states.factors.reshape(worlds, -1).max(axis=1).astype(float)
    slowest = jitter.copy()
    late = states.factors[states.slow].astype(float) * spec.frailty.straggler_slowdown
    np.maximum.at(slowest, states.slow // spec.world_gpus, late)
    place = (worlds, spec.world_gpus, spec.domain_gpus, spec.planes)
    links, _ = live_planes(states.links, *place)
    planes, degraded = live_planes(np.r_[states.links, states.under_dead], *place)
    leaves = states.leaves

    def fewest(ports: Ints) -> Floats:
        weakest = ports.reshape(-1, spec.rails).min(axis=1).astype(float)
        return worst_by_world(weakest, spec.leaf_gpus * spec.rails, worlds, spec.world_gpus)

    dead_uplinks = int(leaves.reachable.sum() - leaves.uplinks.sum())
    return _Island(
        jitter=jitter,
        slowest=slowest,
        links=links,
        planes=planes,
        reachable=fewest(leaves.reachable),
        uplinks=fewest(leaves.uplinks),
        counts=(len(states.slow), degraded, len(leaves.dead), dead_uplinks),
    )


def _waterfall(spec: FleetStep, island: _Island, going: NDArray[np.bool_]) -> tuple[float, ...]:
    """Return the island's step with the causes up to each, in the order of CAUSES."""
    if not going.any():
        return (math.inf,) * len(CAUSES)
    every = float(spec.uplinks * spec.planes)
    whole = network_rate(spec, np.full(len(going), spec.planes), every)[going]
    links = network_rate(spec, island.links, every)[going]
    switches = network_rate(spec, island.planes, island.reachable)[going]
    uplinks = network_rate(spec, island.planes, island.uplinks)[going]
    jitter, slowest = island.jitter[going], island.slowest[going]
    return (
        _island_s(spec, jitter, whole),
        _island_s(spec, slowest, whole),
        _island_s(spec, slowest, links),
        _island_s(spec, slowest, switches),
        _island_s(spec, slowest, uplinks),
    )


def _island_s(spec: FleetStep, factor: Floats, rate: Floats) -> float:
    """Return the step of an island: its worlds' compute and messages, then those between them."""
    world_s = spec.world_bytes / rate
    ready_s = factor * spec.compute_s + np.maximum(world_s - spec.hidden_s, 0.0)
    hides_s = max(spec.hidden_s - float(world_s.max()), 0.0)
    island_s = max(spec.island_bytes / float(rate.min()) - hides_s, 0.0)
    return float(ready_s.max()) + island_s


def _ideal_s(spec: FleetStep) -> float:
    rate = network_rate(spec, np.array([spec.planes]), float(spec.uplinks * spec.planes))
    return _island_s(spec, np.ones(1), rate)


def _delays(ideal_s: float, by_level: Floats) -> dict[str, Floats]:
    levels = np.vstack([np.full(by_level.shape[1], ideal_s), by_level])
    with np.errstate(invalid="ignore"):
        added = np.where(np.isfinite(levels[1:]), np.diff(levels, axis=0), 0.0)
    return dict(zip(CAUSES, added, strict=True))


def _outer_s(spec: FleetStep, random: np.random.Generator) -> float:
    if not spec.outer_bytes:
        return 0.0
    dead = int(random.binomial(spec.wan_pairs, spec.frailty.dead_pair_share))
    alive = (spec.wan_pairs - dead) / spec.wan_pairs
    return spec.outer_bytes / (spec.wan_bytes_per_s * alive) if alive else math.inf


def _round_s(spec: FleetStep, island_s: Floats, outer_s: Floats) -> float:
    local_s = spec.local_steps * island_s
    there = np.isfinite(local_s + outer_s)
    if not there.any():
        return math.inf
    left_s = np.maximum(outer_s[there] - spec.outer_hidden * local_s[there], 0.0)
    return float((local_s[there] + left_s).max())


def _check(spec: FleetStep) -> None:
    """Refuse what no fleet can be."""
    whole = ("islands", "worlds", "world_gpus", "domain_gpus", "planes", "leaf_gpus", "rails",
             "local_steps", "wan_pairs")  # fmt: skip
    for name in whole:
        if getattr(spec, name) < 1:
            raise InputError(f"{name} is 1 or more, not {getattr(spec, name)}")
    for name in ("compute_s", "world_bytes", "island_bytes", "hidden_s", "outer_bytes", "uplinks"):
        if not 0 <= getattr(spec, name) < math.inf:
            raise InputError(f"{name} is 0 or more, not {getattr(spec, name):g}")
    if spec.worlds < spec.islands:
        raise InputError(f"{spec.islands} islands want a world each, not {spec.worlds} in all")
    if not 0 < spec.nic_bytes_per_s < math.inf or spec.planes > MAX_PLANES:
        raise InputError(
            f"a GPU has over 0 bytes/s on 1 to {MAX_PLANES} planes, not {spec.nic_bytes_per_s:g} "
            f"on {spec.planes}"
        )
    if not 0 <= spec.leaving <= 1 or not 0 <= spec.outer_hidden <= 1:
        raise InputError(
            f"leaving and outer_hidden are shares, not {spec.leaving:g}, {spec.outer_hidden:g}"
        )
    if spec.outer_bytes and not 0 < spec.wan_bytes_per_s < math.inf:
        raise InputError("an outer step needs wan_bytes_per_s over 0")
