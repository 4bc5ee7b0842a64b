"""How one world is split: the plan's layout as whole numbers, and which layers go where."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from crore.errors import InputError

V_SHAPED: Final = ("zb-v",)
"""Schedules whose pipeline turns round: a rank holds a stage of each leg."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Split:
    """One layout of one `torch.distributed` world; ranks unless it says otherwise."""

    pp: int = 1
    vpp: int = 1
    """Model chunks per pipeline rank (interleaved)."""
    dp_replicate: int = 1
    dp_shard: int = 1
    cp: int = 1
    tp: int = 1
    ep: int = 1
    etp: int = 1
    micro_batch: int = 1
    """Sequences per pass."""
    schedule: str = "1f1b"
    sequence_parallel: bool = False
    recompute: str = "none"
    recompute_layers: int = 0
    """Layers per stage that full recompute redoes; 0 for all."""
    zero: int = 3
    precision: str = "fp32"

    @property
    def ranks(self) -> int:
        """Ranks of the world."""
        return self.pp * self.dp_replicate * self.dp_shard * self.cp * self.tp

    @property
    def dp(self) -> int:
        """Ranks that are given different sequences."""
        return self.dp_replicate * self.dp_shard

    @property
    def fsdp(self) -> int:
        """Ranks that share one copy of plain weights: context ranks hold shards like data ranks."""
        return self.dp_shard * self.cp

    @property
    def expert_fsdp(self) -> int:
        """Ranks of one replica that share one copy of an expert."""
        return self.fsdp * self.tp // self.ep

    @property
    def chunks(self) -> int:
        """Stages on one pipeline rank."""
        if self.pp == 1:
            return 1
        return 2 if self.schedule in V_SHAPED else self.vpp

    @property
    def stages(self) -> int:
        """Stages of the whole pipeline."""
        return self.pp * self.chunks

    def micro_batches(self, global_batch: int) -> int:
        """Return passes per step; InputError where the batch does not divide."""
        count, rest = divmod(global_batch, self.dp * self.micro_batch)
        if rest or not count:
            raise InputError(
                f"global batch {global_batch} is no multiple of {self.dp} data-parallel ranks x "
                f"micro-batch {self.micro_batch}"
            )
        return count

    def words(self) -> str:
        """Return the axes that are used, as one reads them."""
        axes = ("pp", "vpp", "dp_replicate", "dp_shard", "cp", "tp", "ep")
        used = [f"{axis} {getattr(self, axis)}" for axis in axes if getattr(self, axis) > 1]
        return ", ".join(used) or "one rank"


def split_of(layout: Mapping[str, Any]) -> Split:
    """Return the split of a plan's `layout` record."""
    numbers = ("pp", "vpp", "dp_replicate", "dp_shard", "cp", "tp", "ep", "etp", "micro_batch",
               "recompute_layers")  # fmt: skip
    words = ("schedule", "sequence_parallel", "recompute", "precision")
    zero = str(layout["zero"])
    fields: dict[str, Any] = {key: int(layout[key]) for key in numbers}
    fields |= {key: layout[key] for key in words}
    return Split(**fields, zero=int(zero.removeprefix("zero")) if zero != "none" else 0)


def world_split(plan: Mapping[str, Any]) -> Split:
    """Return the split of one world: a plan's replicas are those of all worlds of an island.

    Raises InputError where the worlds do not share them evenly.
    """
    split = split_of(plan["layout"])
    worlds = int(plan["worlds"]) // int(plan["islands"])
    replicas, rest = divmod(split.dp_replicate, worlds)
    if rest:
        raise InputError(f"{split.dp_replicate} replicas are no multiple of {worlds} worlds")
    return replace(split, dp_replicate=replicas)


def stage_of_chunk(split: Split, rank: int, chunk: int) -> int:
    """Return the stage that a pipeline rank's chunk is: in loops, or there and back in a V."""
    if split.schedule in V_SHAPED and chunk % 2:
        return split.stages - 1 - rank
    return chunk * split.pp + rank


def layers_of_stage(layers: int, stages: int, stage: int) -> range:
    """Return the layers of a stage: as even as can be, the fuller ones first.

    The last stages also hold the head and its loss.
    """
    each, more = divmod(layers, stages)
    first = stage * each + min(stage, more)
    return range(first, first + each + (stage < more))


def largest_stage(layers: int, stages: int) -> int:
    """Return the layers of the fullest stage."""
    return math.ceil(layers / stages)


def needs_wrapping(split: Split, *, experts: bool) -> tuple[bool, bool]:
    """Return whether plain weights, and experts, are wrapped.

    They are where several ranks hold the same weights, or where products run in another format
    than the weights are kept in.
    """
    cast = split.precision != "fp32"
    expert = experts and (cast or split.dp_replicate * split.expert_fsdp > 1)
    # A pipeline reduces gradients from the root of a stage, so experts are never wrapped alone.
    return cast or expert or split.dp_replicate * split.fsdp > 1, expert
