"""What fails in a fleet, how often, and what each way to survive it takes: one record, `Run`."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from typing import Final, Literal

from crore.errors import InputError, UnknownName, shown

Policy = Literal[
    "restart-disk", "restart-peer", "hot-spares", "elastic", "quorum",
    "islands-barrier", "islands-quorum", "islands-free",
]  # fmt: skip
RESTARTS: Final[tuple[Policy, ...]] = ("restart-disk", "restart-peer", "hot-spares")
"""Every failure stops all GPUs."""
POLICIES: Final[tuple[Policy, ...]] = (
    *RESTARTS, "elastic", "quorum", "islands-barrier", "islands-quorum", "islands-free",
)  # fmt: skip
"""From all GPUs in one world that restarts, over one quorum of worlds, to islands of worlds."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Hazard:
    """One cause of failures that stop what runs on a domain."""

    name: str
    domain: str
    """What goes down together: "gpu", "tray", "rack", "leaf", "row"."""
    domain_gpus: float
    """GPUs of one such domain."""
    per_gpu_s: float
    """Events per GPU-second of the fleet, at hazard 1."""
    permanent: float = 0.0
    """Share of the events that need hands: the machine is drained until it is repaired."""

    def __post_init__(self) -> None:
        _check(f"hazard {shown(self.name)}", self, shares=("permanent",), positive=("domain_gpus",))


@dataclass(frozen=True, kw_only=True, slots=True)
class Checkpoint:
    """What one way to restart takes."""

    write_s: float
    """Seconds that training waits for one checkpoint."""
    restart_s: float
    """Seconds from a failure until training goes on from the last checkpoint."""

    def __post_init__(self) -> None:
        _check("checkpoint", self)


@dataclass(frozen=True, kw_only=True, slots=True)
class Silent:
    """Silent data corruption: all work since it is thrown away once it is noticed."""

    per_gpu_s: float
    """Corruptions per GPU-second at hazard 1."""
    detect_s: float
    """Seconds until one is noticed; failures in them cost nothing more."""
    rollback_s: float
    """Seconds to fetch a state from before it, where nothing restarts."""

    def __post_init__(self) -> None:
        _check("silent", self)


@dataclass(frozen=True, kw_only=True, slots=True)
class Straggling:
    """GPUs that turn slow and hold up all that wait for them, until they are evicted."""

    per_gpu_s: float
    """New stragglers per GPU-second at hazard 1."""
    slowdown: float
    """Step time of their group over the usual one, >= 1; several are no worse than one."""
    evict_s: float
    """Seconds until one is found and evicted; those that arrive meanwhile leave with it."""

    def __post_init__(self) -> None:
        _check("straggling", self)
        if self.slowdown < 1:
            raise InputError(f"straggling: slowdown is >= 1, not {self.slowdown:g}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Planned:
    """Maintenance: no work is lost, as everybody knows when it comes."""

    every_s: float
    """Between two stops of the run; of one world where worlds take turns."""
    away_s: float
    """Seconds of one stop."""

    def __post_init__(self) -> None:
        _check("planned", self, positive=("every_s",))


@dataclass(frozen=True, kw_only=True, slots=True)
class Spares:
    """Machines that stand by, and how long broken ones are away."""

    share: float
    """GPUs standing by over GPUs at work; each island has its own."""
    drain_gpus: float
    """GPUs taken out for one permanent failure: a tray, or a whole rack."""
    repair_s: float
    """Seconds until they are back."""
    replace_s: float
    """Seconds to bring in a cold machine, where spares are not hot."""

    def __post_init__(self) -> None:
        _check("spares", self, positive=("drain_gpus",))


@dataclass(frozen=True, kw_only=True, slots=True)
class Sites:
    """Outages of whole sites; every island is one."""

    every_s: float
    """Between two outages of one site."""
    away_s: float
    """Mean seconds of one, exponential."""
    timeout: float
    """Share of a round that a barrier waits for a site before it goes on without it."""

    def __post_init__(self) -> None:
        _check("sites", self, shares=("timeout",), positive=("every_s",))


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """A fleet at work, all that may stop it, and what each policy needs to go on.

    Closed forms and Monte-Carlo read this record alone. `hazard` multiplies failures, silent
    corruption and stragglers, not maintenance and site outages.
    """

    gpus: float
    """GPUs at work, spares left out."""
    world_gpus: float
    """GPUs of one world: what drops out together when a part of it fails."""
    islands: int
    """Sites; groups that step alone under the policies of islands."""
    step_s: float
    """Seconds of one step, the shortest interval between checkpoints; 0 for none."""
    round_s: float
    """Seconds of work of an island between two joins (H steps)."""
    hazards: tuple[Hazard, ...]
    silent: Silent
    straggling: Straggling
    planned: Planned
    spares: Spares
    sites: Sites
    disk: Checkpoint
    """Of "restart-disk": storage, and a machine replaced cold."""
    peer: Checkpoint
    """Of "restart-peer": memory of a machine of another power row, and a machine replaced cold."""
    hot: Checkpoint
    """Of "hot-spares": the same memory at the end of a step, and a spare that is up."""
    storage_every_s: float
    """Seconds between copies of that memory in storage: a site outage loses what is younger."""
    stall_s: float
    """Seconds that a group with a quorum loses per failure: waiting, and the step done again."""
    rebuild_s: float
    """Seconds that all wait per change of members under "elastic": a drop and a rejoin each."""
    absent_s: float
    """Seconds of its group's working time that a failed world misses."""
    hazard: float = 1.0
    """κ: rates over those of the catalogue (Llama 3's cluster)."""
    quorum: float = 0.9
    """Share of the islands that "islands-quorum" waits for."""

    def __post_init__(self) -> None:
        _check("run", self, shares=("quorum",), positive=("gpus", "world_gpus", "round_s"))
        if self.islands < 1 or self.islands != int(self.islands):
            raise InputError(f"run: islands is a whole number >= 1, not {shown(self.islands)}")
        if self.world_gpus * self.islands > self.gpus * (1 + 1e-9):
            raise InputError(
                f"run: {self.islands} islands of at least one world of {self.world_gpus:g} GPUs "
                f"need more than {self.gpus:g} GPUs: give fewer islands or smaller worlds"
            )

    @property
    def mtbf_s(self) -> float:
        """Seconds between interruptions anywhere in the fleet; infinite where nothing fails."""
        rate = self.hazard * self.gpus * (self.failures_per_gpu_s + self.silent.per_gpu_s)
        return 1 / rate if rate else math.inf

    @property
    def failures_per_gpu_s(self) -> float:
        """Failures of all causes per GPU-second at hazard 1, silent corruption left out."""
        return sum(hazard.per_gpu_s for hazard in self.hazards)

    @property
    def permanent(self) -> float:
        """Share of the failures that need hands."""
        total = self.failures_per_gpu_s
        return sum(h.per_gpu_s * h.permanent for h in self.hazards) / total if total else 0.0


def failures_only(run: Run) -> Run:
    """Return a run without silent corruption, stragglers, maintenance, outages and repairs."""
    return replace(
        run,
        hazards=tuple(replace(hazard, permanent=0.0) for hazard in run.hazards),
        silent=replace(run.silent, per_gpu_s=0.0),
        straggling=replace(run.straggling, per_gpu_s=0.0),
        planned=replace(run.planned, every_s=math.inf),
        sites=replace(run.sites, every_s=math.inf),
    )


def check_policy(policy: str) -> None:
    """Refuse a policy that is none of `POLICIES` with UnknownName."""
    if policy not in POLICIES:
        raise UnknownName("policy", policy, POLICIES)


def _check(
    label: str, record: object, *, shares: tuple[str, ...] = (), positive: tuple[str, ...] = ()
) -> None:
    """Refuse numbers that are negative, no number, not positive, or shares above one."""
    for name in (f.name for f in fields(record)):  # type: ignore[arg-type]
        given = getattr(record, name)
        if not isinstance(given, int | float):
            continue
        least, most = (0.0, 1.0 if name in shares else math.inf)
        above = given > least if name in positive else given >= least
        if not above or not given <= most:
            rule = f"{'>' if name in positive else '>='} 0" + (" and <= 1" if most == 1 else "")
            raise InputError(f"{label}: {name} is a number {rule}, not {shown(given)}")
