"""Context parallelism by swapping sequence parts for heads: the attention of one rank."""

from __future__ import annotations

import pytest
import torch
import torch.distributed as dist
from tests.model.shapes import drawn
from tests.train.gloo import run

from crore.model.attention import Core
from crore.model.context import apply_ulysses, heads_for_tokens, tokens_for_heads
from crore.model.positions import Mask, alibi_slopes

SLOPES = alibi_slopes(4)
# Name -> window, slopes, key-value heads, width of values.
CORES = {
    "causal": (0, False, 4, 8),
    "window": (3, False, 4, 8),
    "slopes": (0, True, 4, 8),
    "grouped": (0, False, 2, 8),
    "one key-value head for two ranks": (0, False, 1, 8),
    "narrow values": (0, False, 4, 6),
}


def given(groups, values):
    """Return queries [2, 12, 4, 8], keys and values of a whole sequence, and a direction."""
    shapes = ((4, 8), (groups, 8), (groups, values), (4, values))
    return [drawn(2, 12, *shape, seed=n) for n, shape in enumerate(shapes)]


def attended(name, heads=slice(None), rank=0, ranks=1, group=None):
    """Return the output and the gradients of a rank's tokens."""
    window, alibi, groups, values = CORES[name]
    mask = Mask(window, alibi=alibi)
    mask.reset(SLOPES[heads] if alibi else None)
    core = Core(mask)
    if group is not None:
        apply_ulysses(core, group)
    each = 12 // ranks
    own = slice(rank * each, (rank + 1) * each)
    q, k, v, wanted = (x[:, own] for x in given(groups, values))
    q, k, v = (x.clone().requires_grad_() for x in (q, k, v))
    out = core(q, k, v)
    return [out.detach(), *torch.autograd.grad((out * wanted).sum(), [q, k, v])]


def on_a_rank():
    """Return what each core comes to on this rank, and whether a swap undoes itself."""
    rank, group = dist.get_rank(), dist.group.WORLD
    assert group is not None
    heads = slice(rank * 2, (rank + 1) * 2)
    x = drawn(2, 6, 4, 8, seed=rank)
    swapped = heads_for_tokens(x, group)
    same = torch.equal(tokens_for_heads(swapped, group), x)
    return {name: attended(name, heads, rank, 2, group) for name in CORES}, swapped, same


@pytest.fixture(scope="module")
def two_ranks(tmp_path_factory):
    return run(on_a_rank, 2, tmp_path_factory.mktemp("two"))


def test_a_swap_gives_a_rank_all_tokens_of_its_heads_and_undoes_itself(two_ranks):
    whole = torch.cat([drawn(2, 6, 4, 8, seed=rank) for rank in (0, 1)], dim=1)
    for rank, (_, swapped, same) in enumerate(two_ranks):
        assert torch.equal(swapped, whole[:, :, rank * 2 : (rank + 1) * 2])
        assert same


@pytest.mark.parametrize("name", CORES)
def test_two_ranks_attend_as_one(name, two_ranks):
    for parts in zip(attended(name), *(found[name] for found, _, _ in two_ranks), strict=True):
        whole, *halves = parts
        assert torch.allclose(torch.cat(halves, dim=1), whole, atol=1e-5)
