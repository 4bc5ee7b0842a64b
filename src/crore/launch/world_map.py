"""Which world stands where: islands, worlds and GPU numbers, as ranges.

GPUs are numbered island by island and world by world, as `crore rehearse --rank` counts them.
"""

from __future__ import annotations

from typing import Any, Final

from crore.launch.export import Export
from crore.launch.launch import Launch

SCHEMA_VERSION: Final = 1
"""Of crore.launch, the document `map.json`."""


def world_map(launch: Launch, export: Export, files: tuple[str, ...]) -> dict[str, Any]:
    """Return the record of map.json; ranges are [first, last], both inside.

    It has one row per island, whatever the number of GPUs: world w holds the GPUs from
    w x gpus_per_world on.
    """
    each = launch.layout.ranks
    total = launch.worlds * each
    return {
        "target": export.target,
        "written_for": export.written_for,
        "files": list(files),
        "model": launch.spec.name,
        "gpus": total,
        "spares": [total, total + launch.spares - 1] if launch.spares else None,
        "gpus_per_world": each,
        "nodes_per_world": launch.nodes,
        "gpus_per_node": launch.node_gpus,
        "world_file": export.world_file,
        "worlds": launch.worlds,
        "outer_step_every": launch.interval if launch.islands > 1 else None,
        "islands": [_island(launch, island) for island in range(launch.islands)],
    }


def _island(launch: Launch, island: int) -> dict[str, Any]:
    worlds, each = launch.worlds_of(island), launch.layout.ranks
    return {
        "island": island,
        "worlds": [worlds.start, worlds.stop - 1],
        "gpus": [worlds.start * each, worlds.stop * each - 1],
    }
