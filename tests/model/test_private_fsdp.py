"""What crore reads of FSDP and pipelines by private names, in a world in which nothing is sent."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.pipelining import PipelineStage, ScheduleInterleaved1F1B, schedules
from torch.distributed.pipelining._utils import InferenceMode
from torch.distributed.tensor import DTensor, Replicate, Shard
from torch.utils._python_dispatch import TorchDispatchMode

from crore.model import private

RANKS = 4


@pytest.fixture
def world():
    """Rank 1 of four."""
    private.fake_world(RANKS, 1)
    yield
    dist.destroy_process_group()
    private.forget_shardings()


@pytest.fixture
def part(world):  # noqa: ARG001 (it must be there)
    """A sharded layer."""
    layer = nn.Linear(8, 8, bias=False)
    fully_shard(layer, mesh=init_device_mesh("cpu", (RANKS,)), reshard_after_forward=False)
    return layer


class Seen(TorchDispatchMode):
    """Keeps the collectives that pass."""

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if any(issubclass(kind, DTensor) for kind in types):
            return NotImplemented
        group = private.group_of_collective(func, args)
        if group is not None:
            kind, peer = private.collective_of(func, args, group)
            self.found.append((kind, peer, group.size(), private.in_backward()))
        return func(*args, **(kwargs or {}))


@pytest.mark.usefixtures("world")
def test_a_fake_world_has_a_rank_and_a_size():
    assert (dist.get_rank(), dist.get_world_size()) == (1, RANKS)
    whole = dist.group.WORLD
    assert whole is not None
    assert private.group_named(whole.group_name) is whole


@pytest.mark.usefixtures("world")
def test_collectives_are_seen_with_their_group_and_peer():
    with Seen() as seen:
        dist.all_reduce(torch.zeros(2))
        dist.send(torch.zeros(2), 3)
    assert seen.found == [("all_reduce", -1, RANKS, False), ("send", 3, RANKS, False)]


def test_gathers_and_reductions_of_a_layer_are_seen_forward_and_backward(part):
    with Seen() as seen:
        part(torch.zeros(2, 8)).sum().backward()
    kinds = [(kind, backward) for kind, _, _, backward in seen.found]
    assert kinds == [("all_gather", False), ("reduce_scatter", True)]


def test_weights_are_gathered_and_freed_on_demand(part):
    part(torch.zeros(2, 8))
    assert private.gathered(part) == (True,)
    (buffer,) = private.whole_weights(part)
    assert buffer.untyped_storage().nbytes() == 8 * 8 * 4
    private.set_gathered(part, (False,))
    assert private.gathered(part) == (False,)
    assert buffer.untyped_storage().nbytes() == 0


def test_unreduced_gradients_are_found_dropped_and_made(part):
    part.set_requires_gradient_sync(False)
    part(torch.zeros(2, 8)).sum().backward()
    (gradient,) = private.unreduced_gradients(part)
    assert tuple(gradient.shape) == (8, 8)
    there = private.gradients_there(part)
    private.set_gradients_there(part, (None,) * len(there))
    assert private.unreduced_gradients(part) == []
    private.set_gradients_there(part, there)
    assert private.gradients_there(part) == there


@pytest.mark.usefixtures("world")
def test_sharding_propagation_is_set_apart():
    entered = []

    @contextlib.contextmanager
    def apart():
        entered.append(1)
        yield

    mesh = init_device_mesh("cpu", (RANKS,))
    with private.propagation_apart(apart):
        a = DTensor.from_local(torch.zeros(3, 5), mesh, [Shard(0)], run_check=False)
        b = DTensor.from_local(torch.zeros(5, 2), mesh, [Replicate()], run_check=False)
        _ = a @ b
    assert entered


def test_fake_tensors_have_no_values():
    with FakeTensorMode():
        assert not private.has_values(torch.zeros(2))
    assert private.has_values(torch.zeros(2))


@pytest.mark.usefixtures("world")
def test_a_pipeline_of_many_chunks_keeps_them_gathered():
    hidden = torch.empty(1, 8, device="meta", requires_grad=True)
    group = dist.new_group([0, 1])
    dist.new_group([2, 3])

    def schedule():
        stages: list[Any] = [
            PipelineStage(nn.Linear(8, 8), 2 * k + 1, 8, torch.device("cpu"), group=group,
                          input_args=hidden, output_args=hidden)
            for k in range(4)
        ]  # fmt: skip
        return ScheduleInterleaved1F1B(stages, n_microbatches=4, loss_fn=lambda *_: None)

    def frees(made):
        return sum(
            action.computation_type == schedules._ComputationType.RESHARD
            for action in made.pipeline_order_with_comms[1]
        )

    assert frees(schedule()) > 4
    with private.all_stages_active(4):
        made = schedule()
    assert frees(made) == 4
    assert [stage.stage_index for stage in private.pipeline_stages(made)] == [1, 3, 5, 7]
    private.tell_shapes(made)
    made._warmup_p2p(private.pipeline_stages(made), True, False)
    modes = {stage._inference_mode for stage in private.pipeline_stages(made)}
    assert modes == {InferenceMode.STATIC}
    private.wrap_loss(made, lambda run: lambda *given: ("wrapped", run(*given)))
    assert made._loss_fn(1, 2) == ("wrapped", None)
    assert private.receive_buffers(made) == []
