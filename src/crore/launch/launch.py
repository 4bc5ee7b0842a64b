"""What a launcher must know of a plan: the world it starts, how often, and on which nodes."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from crore.catalog import Catalog
from crore.catalog.types import Accelerator, ModelSpec
from crore.errors import InputError


@dataclass(frozen=True, kw_only=True, slots=True)
class Layout:
    """How one world is split; degrees are ranks of that world."""

    pp: int
    vpp: int
    """Model chunks per pipeline rank."""
    dp_replicate: int
    dp_shard: int
    cp: int
    tp: int
    ep: int
    etp: int
    micro_batch: int
    """Sequences per pass and data-parallel rank."""
    schedule: str
    zero: int
    """ZeRO stage 0-3."""
    recompute: str
    recompute_layers: int
    """Layers of a pipeline rank that `full` computes again."""
    stage_layers: int
    """Layers of the fullest pipeline rank."""
    sequence_parallel: bool
    tp_overlap: bool
    end_slots: bool
    """Embedding and head each take one layer's place in the pipeline."""
    offload_optimizer: float
    """Share of optimizer states kept in host memory."""
    offload_activations: float
    """Share of stored activations kept in host memory."""
    precision: str

    @property
    def dp(self) -> int:
        """Data-parallel ranks."""
        return self.dp_replicate * self.dp_shard

    @property
    def ranks(self) -> int:
        """GPUs of the world."""
        return self.pp * self.dp * self.cp * self.tp


@dataclass(frozen=True, kw_only=True, slots=True)
class Launch:
    """One plan, ready to be written for any launcher."""

    spec: ModelSpec
    accelerator: Accelerator
    layout: Layout
    islands: int
    worlds: int
    """Of all islands; every world is split alike."""
    spares: int
    """GPUs beyond those that train."""
    node_gpus: int
    """Ranks that one node runs."""
    node_size: int
    """GPUs that a node has."""
    seq_len: int
    sequences: int
    """Of one world and step."""
    tokens: int
    steps: int
    interval: int
    """Steps between outer steps; 1 for one island."""
    stack: str
    """Whose speeds the plan's times are."""
    catalog_file: str
    """The user's own catalogue that the plan reads; empty for none."""

    @property
    def nodes(self) -> int:
        """Nodes of one world."""
        return self.layout.ranks // self.node_gpus

    @property
    def is_fleet(self) -> bool:
        """Return whether there are several worlds."""
        return self.worlds > 1

    @property
    def name(self) -> str:
        """A name that a batch system and a cluster's name service accept."""
        plain = re.sub(r"[^a-z0-9]+", "-", self.spec.name.lower()).strip("-")
        return f"crore-{plain[:30]}".rstrip("-")

    def worlds_of(self, island: int) -> range:
        """Return the numbers of an island's worlds; islands hold equally many, in order."""
        each = self.worlds // self.islands
        return range(island * each, (island + 1) * each)


def launch_of(body: Mapping[str, Any], catalog: Catalog, *, node_gpus: int = 0) -> Launch:
    """Return what a launcher must know of a plan (the body of plan.json).

    `node_gpus` are the GPUs of a node, where they are not those of the plan's cluster or GPU.
    Raises InputError for a plan whose parts contradict each other.
    """
    accelerator = catalog.accelerator(str(body["gpu"]))
    islands, worlds = int(body["islands"]), int(body["worlds"])
    if worlds % islands:
        raise InputError(
            f"the plan is damaged: {worlds:,} worlds are not shared evenly by {islands:,} islands; "
            "plan it again"
        )
    layout = _layout(body["layout"], worlds, islands)
    if layout.ranks * worlds != int(body["gpus"]):
        raise InputError(
            f"the plan is damaged: {worlds:,} worlds of {layout.ranks:,} GPUs are not its "
            f"{int(body['gpus']):,}; plan it again"
        )
    seq_len, batch = int(body["seq_len"]), int(body["global_batch_tokens"])
    sequences, rest = divmod(batch, seq_len * worlds)
    if rest or sequences % (layout.dp * layout.micro_batch):
        raise InputError(
            f"the plan is damaged: a batch of {batch:,} tokens is not shared evenly by "
            f"{worlds * layout.dp:,} replicas of micro-batch {layout.micro_batch}; plan it again"
        )
    size = node_gpus or _node_size(body, accelerator, catalog, layout.ranks)
    outer = body.get("outer_step") or {}
    return Launch(
        spec=catalog.model(str(body["request"]["model"])), accelerator=accelerator, layout=layout,
        islands=islands, worlds=worlds, spares=int(body["spares"]),
        node_gpus=_on_a_node(layout.ranks, size), node_size=size, seq_len=seq_len,
        sequences=sequences, tokens=int(body["tokens"]),
        steps=max(math.ceil(int(body["tokens"]) / batch), 1),
        interval=int(outer.get("interval", 1)), stack=str(body["stack"]),
        catalog_file=str(body["request"].get("catalog_file") or ""),
    )  # fmt: skip


def _layout(record: Mapping[str, Any], worlds: int, islands: int) -> Layout:
    """Return one world's layout: a plan's replicas are those of all worlds of an island."""
    from crore.cost.layout import ZERO

    each = worlds // islands
    replicas, rest = divmod(int(record["dp_replicate"]), each)
    if rest:
        raise InputError(
            f"{record['dp_replicate']} replicas are no multiple of {each} worlds; plan it again"
        )
    whole = ("pp", "vpp", "dp_shard", "cp", "tp", "ep", "etp", "micro_batch", "recompute_layers",
             "stage_layers")  # fmt: skip
    return Layout(
        **{key: int(record[key]) for key in whole}, dp_replicate=replicas,
        schedule=str(record["schedule"]), zero=ZERO.index(record["zero"]),
        recompute=str(record["recompute"]), precision=str(record["precision"]),
        sequence_parallel=bool(record["sequence_parallel"]),
        tp_overlap=bool(record["tp_overlap"]), end_slots=bool(record["end_slots"]),
        offload_optimizer=float(record["offload_optimizer"]),
        offload_activations=float(record["offload_activations"]),
    )  # fmt: skip


def _node_size(
    body: Mapping[str, Any], accelerator: Accelerator, catalog: Catalog, ranks: int
) -> int:
    """Return GPUs of a node; the ranks of a plan for a processor are all on one."""
    if accelerator.cpu:
        return ranks
    cluster = catalog.cluster(body["cluster"]) if body.get("cluster") else None
    return (cluster.node_size if cluster else 0) or accelerator.node_size


def _on_a_node(ranks: int, size: int) -> int:
    """Return ranks per node: launchers start the same number on each, so a divisor of all."""
    return next(n for n in range(min(ranks, size), 0, -1) if ranks % n == 0)
