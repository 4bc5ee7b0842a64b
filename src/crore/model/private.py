"""Every private API of torch that crore uses, in one place, with the versions it was tested on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed._functional_collectives as functional
from torch import Tensor
from torch.distributed import ProcessGroup
from torch.distributed._tools import fake_collectives
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Shard
from torch.distributed.tensor._utils import compute_local_shape_and_global_offset

TESTED: tuple[str, ...] = ("2.13",)


def is_tested() -> bool:
    """Return whether the running torch is one these calls were tested on."""
    return ".".join(torch.__version__.split(".")[:2]) in TESTED


def local_offset(tensor: Tensor) -> Sequence[int]:
    """Return where this rank's part of a tensor begins in the whole, one entry per dimension."""
    if not isinstance(tensor, DTensor):
        return (0,) * tensor.dim()
    _, offset = compute_local_shape_and_global_offset(
        tensor.shape, tensor.device_mesh, tensor.placements
    )
    return offset


_ATEN = torch.ops.aten
PRODUCTS = frozenset(
    {_ATEN.mm.default, _ATEN.addmm.default, _ATEN.bmm.default, _ATEN._scaled_mm.default}
)
"""Matrix products, as a dispatcher sees them."""
CORES = frozenset(
    {
        _ATEN._scaled_dot_product_flash_attention_for_cpu.default,
        _ATEN._scaled_dot_product_flash_attention.default,
        _ATEN._scaled_dot_product_efficient_attention.default,
        _ATEN._scaled_dot_product_cudnn_attention.default,
    }
)
"""Attention cores, as a dispatcher sees them."""


def all_to_all(
    x: Tensor, received: list[int] | None, sent: list[int] | None, group: ProcessGroup
) -> Tensor:
    """Exchange rows with a group, differentiably; row counts by rank, None for even parts."""
    out: Tensor = functional.all_to_all_single_autograd(x, received, sent, group)
    done: Tensor = functional.wait_tensor(out)
    return done


def ring_attention(q: Tensor, k: Tensor, v: Tensor, mesh: DeviceMesh) -> Tensor:
    """Causal attention over sequences cut along dim 2 over a mesh; CUDA alone.

    Takes and returns this rank's part [B, H, S, D].
    """
    from torch.distributed.tensor.experimental._context_parallel import _attention

    _attention._cp_options.enable_load_balance = False
    _attention._enable_cp_dtensor_dispatcher()
    q, k, v = (DTensor.from_local(x, mesh, [Shard(2)], run_check=False) for x in (q, k, v))
    out = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
    assert isinstance(out, DTensor)
    return out.to_local()


def scaled_product(
    a: Tensor, b: Tensor, scale_a: Tensor, scale_b: Tensor, dtype: torch.dtype
) -> Tensor:
    """Return `a @ b` of two 8-bit matrices, b stored column by column, each with one scale."""
    return torch._scaled_mm(a, b, scale_a=scale_a, scale_b=scale_b, out_dtype=dtype)


def fake_world(ranks: int, rank: int) -> None:
    """Make the default process group one of `ranks`, seen from `rank`, in which nothing is sent."""
    from torch.testing._internal.distributed.fake_pg import FakeStore

    dist.init_process_group("fake", rank=rank, world_size=ranks, store=FakeStore())


def in_backward() -> bool:
    """Return whether the autograd engine is running."""
    return int(torch._C._current_graph_task_id()) != -1


def group_of_collective(func: Any, args: Any) -> ProcessGroup | None:
    """Return the group of a collective a dispatcher sees; None for anything else and for waiting."""
    if func.namespace not in COLLECTIVES or func in fake_collectives.sync_ops:
        return None
    group: ProcessGroup = fake_collectives.CollectiveOp.get_process_group(func, args)
    return group


COLLECTIVES = frozenset({"c10d", "_c10d_functional", "_c10d_functional_autograd", "_dtensor"})
"""Namespaces of operations that send."""

