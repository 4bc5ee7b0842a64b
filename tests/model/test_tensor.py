"""Two tensor-parallel ranks have the loss and the gradients of one, for every kind of model."""

from __future__ import annotations

import pytest
import torch
import torch.distributed as dist
from tests.model.shapes import KINDS, made, tokens
from tests.train.gloo import run
from torch.distributed.tensor import DTensor

from crore.model.loss import Loss
from crore.model.mesh import make_world
from crore.model.parallelize import BuildOptions, build_parts, finish_gradients
from crore.model.split import Split
from crore.model.tensor import ForAllHeads

CASES = [(kind, sequence) for kind in KINDS for sequence in (False, True)
         if sequence or not KINDS[kind].experts]  # fmt: skip


def backward(model, spec, loss):
    """Run one step; return the loss in nats and the gradients, whole."""
    samples = tokens(spec, 2, 17)
    loss.reset(32)
    loss(model(samples[:, :-1].contiguous()), samples[:, 1:].contiguous()).backward()
    finish_gradients(model.parameters())
    grads = {}
    for name, parameter in model.named_parameters():
        grad = parameter.grad
        grads[name] = grad.full_tensor() if isinstance(grad, DTensor) else grad
    return float(loss.total), grads


def summed(rank: int) -> list[float]:
    """Return the gradient of a number that both ranks use, each with its own weight."""
    assert dist.group.WORLD is not None
    x = torch.ones(2, requires_grad=True)
    (ForAllHeads(dist.group.WORLD)(x) * (rank + 1)).sum().backward()
    assert x.grad is not None
    return x.grad.tolist()


def on_a_rank():
    found = {}
    for kind, sequence in CASES:
        spec, split = KINDS[kind], Split(tp=2, sequence_parallel=sequence)
        world = make_world(split, torch.device("cpu"), experts=spec.experts > 0)
        (model,) = build_parts(spec, 16, world, BuildOptions())
        loss = Loss(z_weight=1e-3, group=world.group("tp"), first=world.tp_rank * 32)
        found[kind, sequence] = backward(model, spec, loss)
    return found, summed(dist.get_rank())


@pytest.fixture(scope="module")
def two_ranks(tmp_path_factory):
    return run(on_a_rank, 2, tmp_path_factory.mktemp("two"))


@pytest.mark.parametrize(("kind", "sequence"), CASES)
def test_two_ranks_are_one(kind, sequence, two_ranks):
    nats, grads = backward(made(KINDS[kind]), KINDS[kind], Loss(z_weight=1e-3))
    for rank, _ in two_ranks:
        said, others = rank[kind, sequence]
        assert said == pytest.approx(nats, rel=1e-5)
        assert set(others) == set(grads)
        for name, grad in grads.items():
            assert torch.allclose(others[name], grad, atol=2e-5, rtol=1e-3), name


def test_what_goes_to_heads_on_all_ranks_has_the_sum_of_their_gradients(two_ranks):
    assert [rank[1] for rank in two_ranks] == [[3.0, 3.0]] * 2
