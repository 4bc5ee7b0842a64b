"""Local parts of parameters, and what is placed like them."""

from __future__ import annotations

import logging

import torch
import torch.distributed as dist
from tests.train.gloo import run
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, Partial, Replicate, Shard, distribute_tensor
from torch.distributed.tensor.parallel import ColwiseParallel, parallelize_module

from crore.model.parallelize import finish_gradients
from crore.train.local import local_part, place_like, shards, whole


def partial_gradient():
    """A replicated weight whose ranks hold terms of its gradient, as under sequence parallelism."""
    mesh = init_device_mesh("cpu", (2,))
    weight = nn.Parameter(distribute_tensor(torch.ones(3), mesh, [Replicate()]))
    term = torch.full((3,), float(dist.get_rank() + 1))
    weight.grad = DTensor.from_local(term, mesh, [Partial()], run_check=False)
    finish_gradients([weight])
    return local_part(weight.grad).tolist(), shards(weight)


def test_a_gradient_in_terms_is_summed(tmp_path):
    assert run(partial_gradient, 2, tmp_path) == [([3.0] * 3, 1)] * 2


def uneven():
    """Three rows on four ranks: the last has none."""
    mesh = init_device_mesh("cpu", (4,))
    weight = nn.Parameter(distribute_tensor(torch.arange(6.0).view(3, 2), mesh, [Shard(0)]))
    part = torch.zeros_like(local_part(weight))
    placed = place_like(part, weight)
    part += 1  # shared storage
    assert isinstance(placed, DTensor)
    return list(part.shape), placed.full_tensor().tolist(), shards(weight)


def test_a_part_is_placed_as_its_parameter_and_shares_storage(tmp_path):
    shapes, whole, count = zip(*run(uneven, 4, tmp_path), strict=True)
    assert shapes == ([1, 2], [1, 2], [1, 2], [0, 2])
    assert whole == ([[1.0, 1.0]] * 3,) * 4
    assert set(count) == {4}


def cut_twice():
    """Five rows over two tensor-parallel ranks, then over two of FSDP."""
    torch.manual_seed(0)
    mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("fsdp", "tp"))
    model = nn.Linear(3, 5, bias=False)
    value = model.weight.detach().clone()
    parallelize_module(model, mesh["tp"], ColwiseParallel())
    fully_shard(model, mesh=mesh["fsdp"])
    logged: list[str] = []
    note = logging.Handler()
    note.emit = lambda record: logged.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger("torch.distributed.tensor").addHandler(note)
    return torch.equal(whole(model.weight), value), logged


def test_what_is_cut_twice_is_gathered_without_a_warning(tmp_path):
    assert run(cut_twice, 4, tmp_path) == [(True, [])] * 4


def test_a_plain_tensor_is_its_own_part():
    weight = nn.Parameter(torch.ones(2))
    assert local_part(weight) is weight
    assert place_like(weight, weight) is weight
    assert whole(weight) is weight
    assert shards(weight) == 1
