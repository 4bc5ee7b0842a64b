"""The gradient's norm over all ranks equals the norm in one process."""

from __future__ import annotations

import math

import pytest
import torch
import torch.distributed as dist
from tests.train.gloo import run
from tests.train.small import SPREADS, backward, named, small, whole

from crore.train.clip import global_norm, norm_share, scale_


def one_process():
    model = small()
    backward(model, 0)
    return named(model)


def spread_norm(spread):
    model = small()
    SPREADS[spread][1](model)
    backward(model, 0)
    parameters = named(model)
    norm = global_norm(norm_share(parameters, dist.get_world_size()))
    scale_(parameters, norm, 0.1)
    clipped = global_norm(norm_share(parameters, dist.get_world_size()))
    return norm, clipped, {name: whole(p.grad) for name, p in parameters.items()}


@pytest.mark.parametrize("spread", SPREADS)
def test_the_norm_and_the_clipped_gradients_are_those_of_one_process(spread, tmp_path):
    alone = one_process()
    expected = torch.nn.utils.clip_grad_norm_(list(alone.values()), 0.1)
    for norm, clipped, gradients in run(spread_norm, SPREADS[spread][0], tmp_path, spread):
        assert norm == pytest.approx(expected.item(), rel=1e-6)
        assert clipped == pytest.approx(0.1, rel=1e-4)
        for name, parameter in alone.items():
            torch.testing.assert_close(gradients[name], parameter.grad, rtol=1e-5, atol=1e-7)


def stage_norm():
    """Two pipeline stages of one rank each, and a head that both hold."""
    mine = {f"stage{dist.get_rank()}": torch.ones(3), "head": torch.ones(2)}
    for parameter in mine.values():
        parameter.grad = torch.full_like(parameter, 2.0)
    return global_norm(norm_share(mine, 1, {"head": 2}))


def test_stages_add_up_and_a_shared_head_counts_once(tmp_path):
    assert run(stage_norm, 2, tmp_path) == [pytest.approx(math.sqrt(8 * 4))] * 2


def test_a_norm_below_the_limit_changes_nothing():
    parameters = one_process()
    before = [p.grad.clone() for p in parameters.values()]
    norm = global_norm(norm_share(parameters, 1))
    assert scale_(parameters, norm, norm * 2) == 1
    assert all(torch.equal(p.grad, g) for p, g in zip(parameters.values(), before, strict=True))


def test_a_norm_that_is_no_number_is_reported_and_scales_nothing():
    parameters = one_process()
    next(iter(parameters.values())).grad[0, 0] = math.nan
    norm = global_norm(norm_share(parameters, 1))
    assert math.isnan(norm)
    assert scale_(parameters, norm, 1.0) == 1


def test_no_gradients_have_norm_zero():
    assert global_norm(norm_share(named(small()), 1)) == 0
