"""Every private API of torch that crore uses, in one place, with the versions it was tested on."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, TypeAlias

import torch
import torch.distributed as dist
import torch.distributed._functional_collectives as functional
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor
from torch.distributed import GroupName, ProcessGroup
from torch.distributed._tools import fake_collectives
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule
from torch.distributed.pipelining import schedules
from torch.distributed.pipelining._utils import InferenceMode
from torch.distributed.tensor import DTensor, Shard, _redistribute, debug
from torch.distributed.tensor._sharding_prop import ShardingPropagator
from torch.distributed.tensor._utils import compute_local_shape_and_global_offset
from torch.distributed.tensor.placement_types import Placement

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
CORES_BACKWARD = frozenset(
    {
        _ATEN._scaled_dot_product_flash_attention_for_cpu_backward.default,
        _ATEN._scaled_dot_product_flash_attention_backward.default,
        _ATEN._scaled_dot_product_efficient_attention_backward.default,
        _ATEN._scaled_dot_product_cudnn_attention_backward.default,
    }
)
"""Their backward passes; the first argument is the gradient of what they returned."""


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


def forget_shardings() -> None:
    """Empty DTensor's caches, whose entries name the process groups of a world that has gone."""
    debug._clear_sharding_prop_cache()
    _redistribute._gen_transform_infos.cache_clear()


def has_values(tensor: Tensor) -> bool:
    """Return whether a tensor holds numbers, and not only says what shape they would have."""
    return not isinstance(tensor, FakeTensor) and tensor.device.type != "meta"


def in_backward() -> bool:
    """Return whether the autograd engine is running."""
    return int(torch._C._current_graph_task_id()) != -1


SENDING: Mapping[str, str] = {
    "_allgather_base_": "all_gather", "allgather_": "all_gather",
    "all_gather_into_tensor": "all_gather", "all_gather_into_tensor_out": "all_gather",
    "_reduce_scatter_base_": "reduce_scatter", "reduce_scatter_": "reduce_scatter",
    "reduce_scatter_tensor": "reduce_scatter", "reduce_scatter_tensor_out": "reduce_scatter",
    "allreduce_": "all_reduce", "all_reduce": "all_reduce", "all_reduce_": "all_reduce",
    "alltoall_": "all_to_all", "alltoall_base_": "all_to_all", "all_to_all_single": "all_to_all",
    "shard_dim_alltoall": "all_to_all", "broadcast_": "broadcast", "broadcast": "broadcast",
    "send": "send", "isend": "send", "recv_": "recv", "irecv": "recv",
}  # fmt: skip
"""Operations that send, by their names in c10d and among the functional ones."""


def group_of_collective(func: Any, args: Any) -> ProcessGroup | None:
    """Return the group of a collective as dispatched; None for anything else and for waiting."""
    if func.namespace not in COLLECTIVES or func.overloadpacket.__name__ in SILENT:
        return None
    group: ProcessGroup = fake_collectives.CollectiveOp.get_process_group(func, args)
    return group


def collective_of(func: Any, args: Any, group: ProcessGroup) -> tuple[Any, int]:
    """Return what a collective is, and the other rank in the world of a send or receive, or -1."""
    kind = SENDING[func.overloadpacket.__name__]
    peer = dist.get_global_rank(group, int(args[2])) if kind in ("send", "recv") else -1
    return kind, peer


COLLECTIVES = frozenset({"c10d", "_c10d_functional", "_dtensor"})
"""Namespaces of operations that send; what autograd's own run is seen one level below."""
SILENT = frozenset({"wait_tensor", "_wrap_tensor_autograd", "barrier", "monitored_barrier_"})
"""Operations among them that send nothing."""


@contextlib.contextmanager
def propagation_apart(apart: Callable[[], AbstractContextManager[None]]) -> Iterator[None]:
    """Enter `apart` where DTensor works out shardings: it makes tensors of global shape for it."""
    names = ("_propagate_tensor_meta_non_cached", "propagate_op_sharding_non_cached")
    before = {name: getattr(ShardingPropagator, name) for name in names}

    def quiet(run: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(run)
        def inner(*args: Any, **kwargs: Any) -> Any:
            with apart():
                return run(*args, **kwargs)

        return inner

    for name, run in before.items():
        setattr(ShardingPropagator, name, quiet(run))
    try:
        yield
    finally:
        for name, run in before.items():
            setattr(ShardingPropagator, name, run)


def tell_shapes(schedule: Any) -> None:
    """Spare a pipeline's stages the vote on whether all were told their messages' shapes.

    The vote reads a number that arrived, which a fake world cannot. Ours always were told.
    """

    def told(stages: Sequence[Any], *_: Any) -> None:
        for stage in stages:
            stage._inference_mode = InferenceMode.STATIC

    schedule._warmup_p2p = told


def wrap_loss(schedule: Any, wrap: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
    """Put something round the loss that a pipeline's last stage computes."""
    schedule._loss_fn = wrap(schedule._loss_fn)


def pipeline_stages(schedule: Any) -> list[Any]:
    """Return the stages that a schedule runs on this rank."""
    return list(schedule._stages) if hasattr(schedule, "_stages") else [schedule._stage]


@contextlib.contextmanager
def all_stages_active(count: int) -> Iterator[None]:
    """Let schedules made inside keep `count` stages of a rank gathered at once, and not three.

    With more chunks than three torch would gather and free them in turn, step after step.
    """
    before = schedules._add_unshard_reshard
    schedules._add_unshard_reshard = functools.partial(before, max_active_stages=count)
    try:
        yield
    finally:
        schedules._add_unshard_reshard = before


def receive_buffers(schedule: Any) -> list[Tensor]:
    """Return the buffers that a pipeline's stages keep from step to step for what arrives."""
    found: list[Tensor] = []
    for stage in pipeline_stages(schedule):
        for infos in (*stage.args_recv_info.values(), *stage.grad_recv_info.values()):
            buffers = [info.buffer for info in infos if info.buffer is not None]
            found += [*buffers, *(b.grad for b in buffers if b.grad is not None)]
    return found


def unreduced_gradients(part: nn.Module) -> list[Tensor]:
    """Return the whole gradients that FSDP keeps of a part until it may reduce them."""
    pairs = [pair for kept in _fsdp_parameters(part) for pair in _gradients_of(kept)]
    return [grad for grad in pairs if grad is not None]


Placed: TypeAlias = tuple[Placement, ...] | None
"""How a gradient is placed, `()` where it is no DTensor; None where there is none."""


def gradients_there(part: nn.Module) -> tuple[Placed, ...]:
    """Return the gradients of a part that exist: FSDP's whole ones, and those of parameters.

    FSDP has two for a parameter: as it came, and summed in the format it is reduced in.
    """
    whole = (_placed(g) for kept in _fsdp_parameters(part) for g in _gradients_of(kept))
    return (*whole, *(_placed(p.grad) for p in part.parameters()))


def set_gradients_there(part: nn.Module, there: Sequence[Placed]) -> None:
    """Make or drop FSDP's whole gradients, of no values, so that `gradients_there` is `there`.

    Those of parameters stay as they are: once there, they are there for the step.
    """
    wanted = iter(there)
    for kept in _fsdp_parameters(part):
        came, summed = _gradients_of(kept)
        of_came, of_summed = next(wanted), next(wanted)
        if _placed(came) != of_came:
            kept._unsharded_param.grad = _like(kept._unsharded_param, of_came, None)
        if _placed(summed) != of_summed:
            kept.unsharded_accumulated_grad = _like(
                kept._unsharded_param, of_summed, kept.reduce_dtype
            )


def _placed(gradient: Tensor | None) -> Placed:
    if gradient is None:
        return None
    return gradient.placements if isinstance(gradient, DTensor) else ()


def _like(parameter: Tensor, placed: Placed, dtype: torch.dtype | None) -> Tensor | None:
    if placed is None:
        return None
    if not isinstance(parameter, DTensor):
        return torch.empty_like(parameter, dtype=dtype)
    local = torch.empty_like(parameter.to_local(), dtype=dtype)
    return DTensor.from_local(
        local, parameter.device_mesh, placed, run_check=False, shape=parameter.shape,
        stride=parameter.stride(),
    )  # fmt: skip


def _gradients_of(kept: Any) -> tuple[Tensor | None, Tensor | None]:
    whole = getattr(kept, "_unsharded_param", None)
    return None if whole is None else whole.grad, kept.unsharded_accumulated_grad


def _fsdp_parameters(part: nn.Module) -> list[Any]:
    return [kept for group in _weight_groups(part) for kept in group.fsdp_params]


def whole_weights(part: nn.Module) -> list[Tensor]:
    """Return the buffers in which FSDP holds weights whole, of no bytes while it does not."""
    return [
        buffer
        for kept in _fsdp_parameters(part)
        for buffer in getattr(kept, "all_gather_outputs", [])
    ]


def gathered(part: nn.Module) -> tuple[bool, ...]:
    """Return which of FSDP's groups of weights are whole on this rank, in order."""
    return tuple(group.is_unsharded for group in _weight_groups(part))


def set_gathered(part: nn.Module, whole: Sequence[bool]) -> None:
    """Gather or free FSDP's groups of weights, so that `gathered` returns `whole`."""
    for group, wanted in zip(_weight_groups(part), whole, strict=True):
        if wanted and not group.is_unsharded:
            group.unshard()
            group.wait_for_unshard()
        elif not wanted and group.is_unsharded:
            group.reshard()


def _weight_groups(part: nn.Module) -> list[Any]:
    return [
        group
        for module in part.modules()
        if isinstance(module, FSDPModule)
        for group in module._get_fsdp_state()._fsdp_param_groups
    ]


def group_named(name: str) -> ProcessGroup:
    """Return the process group of a name."""
    group: ProcessGroup = torch._C._distributed_c10d._resolve_process_group(GroupName(name))
    return group


def silent_group(rank: int, size: int, name: str) -> ProcessGroup:
    """Return a group that sends nothing, as one of its members sees it; in no world's registry.

    Operations of `torch.distributed` take it by `group=`, with or without a world.
    """
    fake = torch._C._distributed_c10d.FakeProcessGroup
    group = ProcessGroup(dist.HashStore(), rank, size)  # type: ignore[attr-defined] # as in `mesh`
    kind = ProcessGroup.BackendType.CUSTOM
    group._register_backend(torch.device("cpu"), kind, fake._create_internal(rank, size))
    group._set_default_backend(kind)
    group._set_group_name(GroupName(name))
    return group
