"""What is asked: the user's words, and the same with every name looked up and number derived."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, Literal

from crore.catalog import Accelerator, Catalog, Cluster, Fabric, ModelSpec
from crore.cost import Shape
from crore.cost.stack import Abilities, Stack

DAY_S: Final = 86_400.0
OBJECTIVES: Final = ("fastest", "cheapest", "pareto")
RENTED: Final = "rented"
OWNED: Final = "owned"
BASES: Final = (OWNED, RENTED)
"""How the dollars are counted."""
LostWorlds = Literal["keep-batch", "scale-lr"]
LOST_WORLDS: Final[tuple[LostWorlds, ...]] = ("keep-batch", "scale-lr")
"""When a world leaves: the others share its samples, or go on with theirs at a lower rate."""
WORLD_GPUS: Final = 10_000
"""Ranks of one torch.distributed world by default: 94,000 ranks are the most published
(arXiv 2602.00277 runs 100,000 GPUs), and the loss of one stops them all."""
LARGEST_WORLD: Final = 100_000
MEMORY_MARGIN: Final = 0.04
"""Share of a predicted peak kept free: most measured ones lie this close (guide/accuracy.md)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """What a plan must not exceed; None where there is no limit."""

    gpus: int | None = None
    """GPUs used."""
    memory_bytes: int | None = None
    """Of one GPU."""
    memory_margin: float = MEMORY_MARGIN
    """Share of the predicted peak kept free."""
    global_batch_tokens: int | None = None
    """Tokens per optimizer step."""
    power_w: float | None = None
    """Of all sites at full load, cooling included."""
    days: float | None = None
    """Until the last token, failures included."""
    world_gpus: int | None = None
    """Ranks of one torch.distributed world."""

    @property
    def deadline_s(self) -> float:
        """Seconds until the last token at most; infinite without a limit on days."""
        return (self.days or math.inf) * DAY_S


@dataclass(frozen=True, kw_only=True, slots=True)
class PlanRequest:
    """The user's words: flags or a mission's keys."""

    model: str
    gpu: str = ""
    gpus: int = 0
    cluster: str = ""
    """A machine of the catalogue: stands for GPU, count, network, nodes and sites."""
    fabric: str = ""
    """The network between servers; chosen by the search when empty."""
    wan: str = ""
    """The network between sites."""
    sites: int = 0
    """Sites the GPUs stand on; chosen by the search when 0."""
    tokens: int | None = None
    """Tokens to train on."""
    stock_tokens: int | None = None
    """Distinct tokens there are."""
    seq_len: int | None = None
    """Tokens per sequence."""
    global_batch: int | None = None
    """Sequences per optimizer step."""
    global_batch_tokens: int | None = None
    """The same in tokens."""
    lost_worlds: LostWorlds = "keep-batch"
    """What a step does without worlds that died."""
    precision: str | None = None
    stack: str = ""
    basis: str = ""
    """Of BASES: whose machines they are; owned where a price is known, else rented, when empty."""
    objective: str = "fastest"
    top: int = 1
    """How many plans that really differ."""
    limits: Limits = field(default_factory=Limits)
    fix: Mapping[str, int | str] = field(default_factory=dict)
    """Layout keys that are pinned."""
    catalog_file: Path | None = None
    title: str = ""
    note: str = ""
    source: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Question:
    """The request with every name looked up and every open number derived."""

    request: PlanRequest
    catalog: Catalog
    """Where the names were looked up."""
    model: ModelSpec
    shape: Shape
    accelerator: Accelerator
    cluster: Cluster | None
    fabric: Fabric | None
    wan: Fabric
    """Between sites; used only where there are several islands."""
    stack_name: str
    stack: Stack
    abilities: Abilities
    gpus: int
    sites: int
    """0 when the search decides."""
    seq_len: int
    global_batch: int
    """Sequences per optimizer step of the whole fleet; a fleet rounds it down to what divides."""
    tokens: int
    precision: str
    derived: tuple[str, ...]
    """One sentence per derived number, for the user to check."""

    def on(self, gpus: int) -> Question:
        """Return the same question for another number of GPUs (of processes, on this machine)."""
        shared = self.catalog.shared(self.accelerator, gpus)
        return replace(self, gpus=gpus, accelerator=shared)

    @property
    def memory_bytes(self) -> float:
        """Memory of one GPU that a plan may use, before the margin."""
        limit = self.request.limits.memory_bytes
        return min(self.accelerator.memory_bytes, limit or self.accelerator.memory_bytes)

    @property
    def world_limit(self) -> int:
        """Ranks of one world: a stack without a quorum of worlds has to make it one large world."""
        alone = "quorum" not in self.abilities.recovery
        return self.request.limits.world_gpus or (LARGEST_WORLD if alone else WORLD_GPUS)

    @property
    def is_fleet(self) -> bool:
        """True when the GPUs are more than one world, so that worlds and islands are chosen."""
        return self.gpus > self.world_limit
