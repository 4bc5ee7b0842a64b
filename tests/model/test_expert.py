"""Experts spread over ranks: rows find their expert and their way back."""

from __future__ import annotations

import torch
import torch.distributed as dist
from hypothesis import given
from hypothesis import strategies as st
from tests.model.shapes import BIASED_EXPERTS, drawn, made
from tests.train.gloo import run
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor

from crore.model.expert import by_expert, spread_experts
from crore.model.mixture import mixtures


@given(st.lists(st.lists(st.integers(0, 4), min_size=3, max_size=3), min_size=1, max_size=4))
def test_rows_that_came_rank_by_rank_are_sorted_by_expert(arriving):
    labels = [(expert, rank) for rank, row in enumerate(arriving)
              for expert, count in enumerate(row) for _ in range(count)]  # fmt: skip
    order, counts = by_expert(torch.tensor(arriving), int(torch.tensor(arriving).sum()))
    assert [labels[n] for n in order.tolist()] == sorted(labels)
    assert counts.tolist() == [sum(row[e] for row in arriving) for e in range(3)]


def mixture():
    found = mixtures(made(BIASED_EXPERTS))[0]
    with torch.no_grad():
        for n, parameter in enumerate(found.parameters()):
            parameter.copy_(drawn(*parameter.shape, seed=n) * 0.4)
    return found


def results(module, rank, skewed):
    """Return the output of a rank's tokens, their gradient, and those of the experts, whole."""
    module.balance[:] = 0
    if skewed:
        module.balance[:2] = 100  # all tokens go to the experts of the first rank
    x = drawn(1, 7, 32, seed=10 + rank).requires_grad_()
    module.zero_grad()
    out = module(x)
    (out * drawn(1, 7, 32, seed=20 + rank)).sum().backward()
    grads = {}
    for name, parameter in module.experts.named_parameters():
        grad = parameter.grad
        grads[name] = grad.full_tensor() if isinstance(grad, DTensor) else grad.clone()
    return out.detach(), x.grad, grads


def spread():
    module = mixture()
    spread_experts(module.experts, init_device_mesh("cpu", (2,)))
    sizes = {len(p.to_local()) for p in module.experts.parameters() if isinstance(p, DTensor)}
    return sizes, [results(module, dist.get_rank(), skewed) for skewed in (False, True)]


def test_two_ranks_with_half_the_experts_each_are_one_with_all(tmp_path):
    alone = mixture()
    ranks = run(spread, 2, tmp_path)
    for skewed in (False, True):
        wholes = [results(alone, rank, skewed) for rank in (0, 1)]
        for (sizes, found), (out, grad, _) in zip(ranks, wholes, strict=True):
            assert sizes == {3}
            assert torch.allclose(found[skewed][0], out, atol=1e-5)
            assert torch.allclose(found[skewed][1], grad, atol=1e-4)
        for name in wholes[0][2]:
            both = wholes[0][2][name] + wholes[1][2][name]
            for _, found in ranks:
                assert torch.allclose(found[skewed][2][name], both, atol=1e-3), name
