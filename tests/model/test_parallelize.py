"""A layout becomes parts of a model: heads and positions of a rank, what wraps its blocks."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock, patch

import pytest
import torch
from tests.model.shapes import ALIBI, DENSE, GPT, KINDS, LATENT, made, tokens

from crore.model import build_decoder
from crore.model.attention import Core
from crore.model.decoder import Block
from crore.model.mesh import make_world
from crore.model.parallelize import (
    BuildOptions,
    apply_context_parallel,
    build_parts,
    finish_gradients,
    materialise,
    parallelize,
)
from crore.model.split import Split

CPU = torch.device("cpu")


def rank_of(split: Split, *, tp: int = 0, cp: int = 0) -> Any:
    """Return what parallelizing asks of a world, for one of its ranks, without the others."""
    context = MagicMock() if split.cp > 1 else None
    if context is not None:
        context.get_group.return_value.size.return_value = split.cp
    return SimpleNamespace(
        split=split, tp_rank=tp, cp_rank=cp, device=CPU, dense=None, sparse=None, context=context
    )


@pytest.mark.parametrize("spec", KINDS.values(), ids=KINDS.keys())
def test_one_rank_builds_the_whole_model(spec):
    (part,) = build_parts(spec, 16, make_world(Split(), CPU), BuildOptions(seed=3))
    x, alone = tokens(spec), made(spec, seed=3)
    assert torch.equal(part(x), alone(x))
    assert [name for name, _ in part.named_parameters()] == [
        name for name, _ in alone.named_parameters()
    ]


@pytest.mark.parametrize(
    ("split", "tp", "cp", "heads"),
    [
        (Split(), 0, 0, [0, 1, 2, 3]),
        (Split(tp=2), 1, 0, [2, 3]),
        (Split(cp=2), 0, 1, [2, 3]),
        (Split(tp=2, cp=2), 1, 0, [2]),
        (Split(tp=2, cp=2), 1, 1, [3]),
    ],
)
def test_a_rank_attends_with_its_own_heads(split, tp, cp, heads):
    part = build_decoder(ALIBI, 16)
    apply_context_parallel(part, rank_of(split, tp=tp, cp=cp), ring=False)
    assert list(range(4))[part.core_heads] == heads


def test_a_ring_attends_with_all_heads_of_a_rank():
    part = build_decoder(LATENT, 16)
    apply_context_parallel(part, rank_of(Split(cp=2), cp=1), ring=True)
    assert list(range(4))[part.core_heads] == [0, 1, 2, 3]
    assert all("forward" in vars(m) for m in part.modules() if isinstance(m, Core))


@pytest.mark.parametrize("spec", [DENSE, GPT, ALIBI], ids=lambda spec: spec.name)
def test_positions_are_those_of_the_tokens_on_a_rank(spec):
    part = build_decoder(spec, 16)
    materialise(part, rank_of(Split(cp=4), cp=2), seed=0)
    assert part.place.tolist() == [8, 9, 10, 11]
    if part.rotary is not None:
        assert part.rotary.cos.shape == (4, 8)
        assert torch.equal(part.rotary.cos, made(spec).rotary.cos[8:12])


def test_a_block_is_wrapped_by_what_is_asked_of_it():
    split = Split(recompute="full", precision="fp8")
    part = build_decoder(DENSE, 16)
    with patch.object(Block, "compile") as compiling:
        parallelize(part, rank_of(split), BuildOptions(compiled=True))
    assert compiling.call_count == len(part.layers)
    for block in part.layers.values():
        assert "forward" in vars(block)
        assert "forward" in vars(block.get_submodule("attention.query"))


def test_nothing_wraps_a_block_of_which_nothing_is_asked():
    part = build_decoder(DENSE, 16)
    parallelize(part, rank_of(Split()), BuildOptions())
    assert not any("forward" in vars(module) for module in part.modules())
    assert all(block._compiled_call_impl is None for block in part.layers.values())


def test_gradients_that_are_whole_stay_as_they_are():
    model = made(DENSE)
    model(tokens(DENSE)).sum().backward()
    before = {name: p.grad for name, p in model.named_parameters()}
    finish_gradients(model.parameters())
    assert all(p.grad is before[name] for name, p in model.named_parameters())
