"""Tensor parallelism, applied from outside with DTensor's styles (arXiv 1909.08053, 2205.05198).

With sequence parallelism hidden states between the regions are cut along the sequence.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributed import ProcessGroup
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import (
    DTensor,
    Partial,
    Replicate,
    Shard,
    distribute_module,
    distribute_tensor,
)
from torch.distributed.tensor.parallel import (
    ColwiseParallel,
    ParallelStyle,
    PrepareModuleInput,
    RowwiseParallel,
    SequenceParallel,
    parallelize_module,
)
from torch.distributed.tensor.placement_types import Placement

from crore.model.decoder import Block, Decoder
from crore.model.latent import LatentAttention
from crore.model.mixture import Mixture

WHOLE = Replicate()


class Replicated(ParallelStyle):
    """The same weights on every rank, for input that is whole, or cut along `layout`.

    Where the input is cut, weight gradients are partial sums until they are reduced.
    """

    def __init__(self, layout: Placement = WHOLE, *, use_local_output: bool = True) -> None:
        super().__init__()
        self.layout, self.local = layout, use_local_output

    def _apply(self, module: nn.Module, device_mesh: DeviceMesh) -> nn.Module:
        def replicate(name: str, part: nn.Module, mesh: DeviceMesh) -> None:
            del name
            for key, value in list(part.named_parameters(recurse=False)):
                whole = distribute_tensor(value, mesh, [WHOLE], src_data_rank=None)
                part.register_parameter(key, nn.Parameter(whole))

        def enter(part: nn.Module, inputs: tuple[Any, ...], mesh: DeviceMesh) -> tuple[Any, ...]:
            del part
            first = inputs[0]
            if not isinstance(first, DTensor):
                first = DTensor.from_local(first, mesh, [self.layout], run_check=False)
            return (first, *inputs[1:])

        def leave(part: nn.Module, output: Any, mesh: DeviceMesh) -> Any:
            del part, mesh
            return output.to_local() if self.local else output

        return distribute_module(module, device_mesh, replicate, enter, leave)  # type: ignore[arg-type]


class Rows(ParallelStyle):
    """A table cut by rows: each rank looks up what it has, and the parts are summed to `layout`.

    DTensor's own look-up makes its gradient for all rows of the table on every rank.
    """

    def __init__(self, layout: Placement) -> None:
        super().__init__()
        self.layout = layout

    def _apply(self, module: nn.Module, device_mesh: DeviceMesh) -> nn.Module:
        assert isinstance(module, nn.Embedding)
        whole = distribute_tensor(module.weight, device_mesh, [Shard(0)], src_data_rank=None)
        module.register_parameter("weight", nn.Parameter(whole))
        module.forward = partial(self._look_up, module, device_mesh)  # type: ignore[method-assign]
        return module

    def _look_up(self, module: nn.Embedding, mesh: DeviceMesh, numbers: Tensor) -> Tensor:
        weight = module.weight
        assert isinstance(weight, DTensor)
        local = weight.to_local()
        rows = local.shape[0]
        place = numbers - mesh.get_local_rank() * math.ceil(weight.shape[0] / mesh.size())
        elsewhere = (place < 0) | (place >= rows)
        found = F.embedding(place.clamp(0, rows - 1), local)
        part = found.masked_fill(elsewhere[..., None], 0.0)
        summed = DTensor.from_local(part, mesh, [Partial()], run_check=False)
        out: Tensor = summed.redistribute(placements=[self.layout]).to_local()
        return out


class _SumGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, group: ProcessGroup) -> Tensor:
        ctx.group = group
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        grad = grad.contiguous()
        dist.all_reduce(grad, group=ctx.group)
        return grad, None


_sum_gradient: Callable[[Tensor, ProcessGroup], Tensor] = _SumGradient.apply


class ForAllHeads(nn.Module):
    """Pass a tensor to heads on all ranks of a group; its gradient is the sum of theirs."""

    def __init__(self, group: ProcessGroup) -> None:
        super().__init__()
        self.group = group

    def forward(self, x: Tensor) -> Tensor:
        """Return `x`."""
        return _sum_gradient(x, self.group)


def apply_tensor_parallel(model: Decoder, mesh: DeviceMesh, *, sequence: bool) -> None:
    """Spread a part of a model over a 1-D mesh; outputs of its blocks stay local tensors.

    The last part returns logits [B, S, V / ranks].
    """
    between: Placement = Shard(1) if sequence else WHOLE
    ends: dict[str, ParallelStyle] = {}
    if model.embedding is not None:
        ends["embedding"] = Rows(between)
    if model.positions is not None:
        rows = Shard(0) if sequence else WHOLE
        ends["positions"] = Rows(rows)
    if model.norm is not None and model.head is not None:
        ends["norm"] = _norm(sequence)
        ends["head"] = ColwiseParallel(input_layouts=between, output_layouts=Shard(-1))
    parallelize_module(model, mesh, ends)
    model.tie()
    for block in model.layers.values():
        assert isinstance(block, Block)
        parallelize_module(block, mesh, _block_plan(block, between, sequence))
        if isinstance(block.attention, LatentAttention):
            block.attention.shared = ForAllHeads(mesh.get_group())


def _norm(sequence: bool) -> ParallelStyle:
    return SequenceParallel() if sequence else Replicated()


def _enter(layout: Placement) -> ParallelStyle:
    return PrepareModuleInput(input_layouts=(layout,), desired_input_layouts=(WHOLE,))


def _block_plan(block: Block, between: Placement, sequence: bool) -> dict[str, ParallelStyle]:
    plan: dict[str, ParallelStyle] = {
        "attention_norm": _norm(sequence),
        "attention": _enter(between),
        "attention.output": RowwiseParallel(output_layouts=between),
    }
    if block.feed_forward_norm is not None:
        plan["feed_forward_norm"] = _norm(sequence)
    latent = isinstance(block.attention, LatentAttention)
    plan |= _latent_plan(block.attention) if latent else _heads_plan(block.attention)
    if isinstance(block.feed_forward, Mixture):
        # The mixture works on local tokens: the norm before it hands over a plain tensor.
        plan["feed_forward_norm"] = SequenceParallel(use_local_output=True)
        plan |= _mixture_plan(block.feed_forward)
    else:
        plan["feed_forward"] = _enter(between)
        plan |= _feed_forward_plan("feed_forward", block.feed_forward, between)
    return plan


def _heads_plan(attention: nn.Module) -> dict[str, ParallelStyle]:
    plan: dict[str, ParallelStyle] = {
        f"attention.{part}": ColwiseParallel() for part in ("query", "key", "value")
    }
    if getattr(attention, "query_norm", None) is not None:
        for part in ("query_norm", "key_norm"):
            plan[f"attention.{part}"] = SequenceParallel(sequence_dim=2, use_local_output=True)
    return plan


def _latent_plan(attention: nn.Module) -> dict[str, ParallelStyle]:
    """The compressed vectors are made whole on every rank, heads are cut."""
    plan: dict[str, ParallelStyle] = {
        "attention.latent": Replicated(),
        "attention.latent_norm": Replicated(use_local_output=False),
        "attention.key_value": ColwiseParallel(),
        "attention.query": ColwiseParallel(),
    }
    if getattr(attention, "query_down", None) is not None:
        plan["attention.query_down"] = Replicated(use_local_output=False)
        plan["attention.query_norm"] = Replicated(use_local_output=False)
    return plan


def _feed_forward_plan(name: str, part: nn.Module, between: Placement) -> dict[str, ParallelStyle]:
    plan: dict[str, ParallelStyle] = {
        f"{name}.up": ColwiseParallel(),
        f"{name}.down": RowwiseParallel(output_layouts=between),
    }
    if getattr(part, "gate", None) is not None:
        plan[f"{name}.gate"] = ColwiseParallel()
    return plan


def _mixture_plan(part: Mixture) -> dict[str, ParallelStyle]:
    """Tokens of a rank stay with it for the router; a shared expert gathers them as a layer does.

    Routed experts are spread over another mesh.
    """
    plan: dict[str, ParallelStyle] = {"feed_forward.router": Replicated(Shard(0))}
    if part.shared is not None:
        plan["feed_forward.shared"] = _enter(Shard(0))
        plan |= _feed_forward_plan("feed_forward.shared", part.shared, Shard(0))
    return plan
