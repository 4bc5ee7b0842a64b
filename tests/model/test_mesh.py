"""Meshes: which ranks are together on which axis, and a world of one."""

from __future__ import annotations

import torch
import torch.distributed as dist
from tests.model.shapes import DENSE, MIXTURE
from tests.train.gloo import run

from crore.model.mesh import make_world
from crore.model.parallelize import BuildOptions, build_parts
from crore.model.split import Split

CPU = torch.device("cpu")


def test_one_rank_without_a_group_has_no_meshes():
    world = make_world(Split(), CPU, experts=True, tied=True)
    assert (world.dense, world.sparse, world.context, world.tied) == (None, None, None, None)
    assert (world.pp_rank, world.tp_rank, world.cp_rank, world.dp_rank) == (0, 0, 0, 0)
    assert world.group("tp") is None
    assert not dist.is_initialized()


def test_one_rank_in_16_bits_has_a_group_of_its_own():
    try:
        world = make_world(Split(precision="bf16"), CPU)
        assert world.dense is not None
        assert dist.get_world_size() == 1
        (model,) = build_parts(DENSE, 16, world, BuildOptions())
        assert {p.dtype for p in model.parameters()} == {torch.float32}
        assert model(torch.zeros(1, 16, dtype=torch.int64)).dtype == torch.bfloat16
    finally:
        dist.destroy_process_group()


def places() -> list[object]:
    """Return this rank's places and groups under several splits."""
    found: list[object] = []
    for split, spec in (
        (Split(pp=2, tp=2), DENSE),
        (Split(dp_replicate=2, dp_shard=2), DENSE),
        (Split(dp_shard=2, cp=2), DENSE),
        (Split(cp=2, tp=2), DENSE),
        (Split(dp_shard=4, ep=2), MIXTURE),
    ):
        world = make_world(split, CPU, experts=spec.experts > 0, tied=True)
        groups = {}
        for axis in ("pp", "dp_replicate", "fsdp", "tp", "cp"):
            if (group := world.group(axis)) is not None:
                groups[axis] = dist.get_process_group_ranks(group)
        if world.sparse is not None:
            groups |= {
                axis: dist.get_process_group_ranks(world.sparse.get_group(axis))
                for axis in ("efsdp", "ep")
            }
        if world.tied is not None:
            groups["tied"] = dist.get_process_group_ranks(world.tied)
        found.append(((world.pp_rank, world.dp_rank, world.cp_rank, world.tp_rank), groups))
    return found


def test_neighbours_share_the_innermost_axis(tmp_path):
    ranks = run(places, 4, tmp_path)
    pp_tp, hsdp, fsdp_cp, cp_tp, ep = zip(*ranks, strict=True)
    # Places are (pp, dp, cp, tp).
    assert [place for place, _ in pp_tp] == [(0, 0, 0, 0), (0, 0, 0, 1), (1, 0, 0, 0), (1, 0, 0, 1)]
    assert pp_tp[1][1] == {"pp": [1, 3], "tp": [0, 1], "tied": [1, 3]}
    assert [place for place, _ in hsdp] == [(0, n, 0, 0) for n in range(4)]
    assert hsdp[2][1] == {"dp_replicate": [0, 2], "fsdp": [2, 3]}
    assert [place for place, _ in fsdp_cp] == [
        (0, 0, 0, 0),
        (0, 0, 1, 0),
        (0, 1, 0, 0),
        (0, 1, 1, 0),
    ]
    assert fsdp_cp[3][1] == {"fsdp": [0, 1, 2, 3], "cp": [2, 3]}
    assert [place for place, _ in cp_tp] == [(0, 0, 0, 0), (0, 0, 0, 1), (0, 0, 1, 0), (0, 0, 1, 1)]
    assert cp_tp[2][1] == {"fsdp": [0, 2], "tp": [2, 3], "cp": [0, 2]}
    assert ep[1][1] == {"fsdp": [0, 1, 2, 3], "ep": [0, 1], "efsdp": [1, 3]}
