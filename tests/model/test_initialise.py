"""Weights are a function of seed, name and place: the same bits under every layout."""

from __future__ import annotations

import itertools
import math
import sys

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.model.shapes import DENSE, GPT, KINDS, MIXTURE, made
from tests.train.gloo import run
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_tensor

from crore.model import initialise as public
from crore.model.initialise import bell, canonical, deviation, fill, flat_indices, key_of
from crore.model.mesh import make_world
from crore.model.parallelize import BuildOptions, build_parts
from crore.model.split import Split

SHAPES = ((7, 6), (5,), (3, 5, 4), (1, 9), (64, 32))


@st.composite
def grids(draw):
    """Return a shape and, for each dimension, the edges of a cut of it, empty blocks included."""
    shape = draw(st.lists(st.integers(1, 6), min_size=1, max_size=3))
    edges = [[0, *sorted(draw(st.lists(st.integers(0, size), max_size=3))), size] for size in shape]
    return tuple(shape), edges


def assemble(shape, edges, block):
    """Put the blocks of a grid together: `block(shape, offset)` makes each."""
    whole = torch.full(shape, -1.0)
    for cell in itertools.product(*(itertools.pairwise(e) for e in edges)):
        sizes = tuple(b - a for a, b in cell)
        whole[tuple(slice(a, b) for a, b in cell)] = block(sizes, tuple(a for a, _ in cell)).float()
    return whole


@given(grids())
def test_the_blocks_of_any_grid_hold_each_index_once_and_in_place(grid):
    shape, edges = grid
    whole = assemble(shape, edges, lambda size, at: flat_indices(size, at, shape))
    assert torch.equal(whole, torch.arange(math.prod(shape)).view(shape).float())


@given(grids(), st.integers(0, 2**61))
def test_the_blocks_of_any_grid_hold_the_weights_of_the_whole(grid, key):
    shape, edges = grid
    whole = bell(torch.arange(math.prod(shape)), key).view(shape)
    blocks = assemble(shape, edges, lambda size, at: bell(flat_indices(size, at, shape), key))
    assert torch.equal(whole, blocks)


def test_numbers_are_bell_shaped_with_mean_0_and_deviation_1():
    numbers = bell(torch.arange(400_000), key_of(3, "layers.0.attention.query.weight")).double()
    within = 5 / math.sqrt(numbers.numel())
    assert abs(numbers.mean()) < within
    assert abs(numbers.std() - 1) < within
    assert abs((numbers**3).mean()) < 3 * within
    # Twelve uniform numbers: kurtosis 3 - 6/(5·12).
    assert (numbers**4).mean() == pytest.approx(2.9, abs=0.08)
    assert numbers.abs().max() <= 6
    # Neighbours, and places a power of two apart, know nothing of each other.
    for step in (1, 2, 64, 4096):
        assert abs((numbers[step:] * numbers[:-step]).mean()) < within


def test_a_table_is_made_part_by_part_as_in_one_go(monkeypatch):
    whole, parts = torch.empty(50, 6), torch.empty(50, 6)
    fill(whole, "table", 1, 0.5)
    monkeypatch.setattr(sys.modules[fill.__module__], "ELEMENTS_AT_ONCE", 13)
    fill(parts, "table", 1, 0.5)
    assert torch.equal(whole, parts)


@pytest.mark.parametrize(("seed", "name"), [(1, "a"), (0, "b"), (1, "b")])
def test_another_seed_or_name_gives_other_weights(seed, name):
    index = torch.arange(100_000)
    one, other = bell(index, key_of(0, "a")), bell(index, key_of(seed, name))
    assert abs(float((one * other).mean())) < 5 / math.sqrt(index.numel())


@pytest.mark.parametrize(
    ("name", "shape", "expected"),
    [
        ("layers.0.attention.query.weight", (32, 48), 1 / math.sqrt(3 * 48)),
        ("layers.0.attention.output.weight", (48, 32), 1 / math.sqrt(3 * 32 * 8)),
        ("layers.3.feed_forward.down.weight", (48, 32), 1 / math.sqrt(3 * 32 * 8)),
        ("layers.3.feed_forward.shared.down.weight", (48, 32), 1 / math.sqrt(3 * 32 * 8)),
        ("layers.3.feed_forward.experts.down", (6, 48, 32), 1 / math.sqrt(3 * 32 * 8)),
        ("layers.3.feed_forward.experts.up", (6, 32, 48), 1 / math.sqrt(3 * 48)),
        ("layers.3.feed_forward.experts.down_bias", (6, 48), 0.0),
        ("layers.0.attention.query.bias", (32,), 0.0),
        ("layers.0.attention.query_norm.weight", (8,), -1.0),
        ("norm.weight", (32,), -1.0),
        ("norm.bias", (32,), 0.0),
        ("embedding.weight", (64, 32), 0.02),
        ("head.weight", (64, 32), 0.02),
        ("positions.weight", (64, 32), 0.02),
        ("prediction.0.join.weight", (32, 64), 1 / math.sqrt(3 * 64)),
        ("prediction.0.hidden_norm.weight", (32,), -1.0),
        ("prediction.0.block.attention.output.weight", (48, 32), 1 / math.sqrt(3 * 32 * 8)),
    ],
)
def test_a_parameter_starts_with_the_deviation_of_its_kind(name, shape, expected):
    assert deviation(name, shape, layers=4) == pytest.approx(expected)


@pytest.mark.parametrize("spec", KINDS.values(), ids=KINDS.keys())
def test_every_parameter_of_every_kind_is_set(spec):
    model = made(spec)
    for name, parameter in model.named_parameters():
        std = deviation(name, parameter.shape, spec.layers)
        if std > 0:
            assert float(parameter.detach().std()) == pytest.approx(std, rel=0.25), name
        else:
            assert torch.all(parameter == -std), name


def test_loads_and_balances_of_routers_start_at_zero():
    model = made(MIXTURE)
    for module in model.modules():
        for name, buffer in module.named_buffers(recurse=False):
            if name in ("balance", "load"):
                buffer.fill_(3)
    public(model, 0)
    buffers = {n: b for n, b in model.named_buffers() if n.endswith(("balance", "load"))}
    assert len(buffers) == 4
    assert all(not b.any() for b in buffers.values())


def test_a_tied_head_has_the_embeddings_weights_in_a_part_without_it():
    model = made(GPT)
    whole = model.embedding.weight.clone()
    model.embedding = model.positions = None
    model.head.weight = torch.nn.Parameter(torch.empty_like(whole))
    public(model, 0)
    assert canonical("head.weight", model) == "embedding.weight"
    assert torch.equal(model.head.weight, whole)


def unlike_alone() -> list[str]:
    """Return which tensors, under which placements, differ from what one process makes."""
    mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("a", "b"))
    wrong = []
    for shape in SHAPES:
        alone = torch.empty(shape)
        fill(alone, "some.weight", 7, 0.3)
        cuts = [Replicate(), *(Shard(dim) for dim in range(len(shape)))]
        for placements in itertools.product(cuts, repeat=2):
            spread = distribute_tensor(torch.zeros(shape), mesh, placements, src_data_rank=None)
            fill(spread, "some.weight", 7, 0.3)
            if not torch.equal(gathered(spread), alone):
                wrong.append(f"{shape} {placements}")
    for spec, split in LAYOUTS:
        world = make_world(split, torch.device("cpu"), experts=spec.experts > 0)
        parts = build_parts(spec, 16, world, BuildOptions(seed=7))
        weights = dict(made(spec, seed=7).named_parameters())
        for part in parts:
            for name, parameter in part.named_parameters():
                if not torch.equal(gathered(parameter), weights[canonical(name, part)]):
                    wrong.append(f"{name} under {split.words()}")
    return wrong


LAYOUTS = [
    (DENSE, Split(dp_shard=2, tp=2, sequence_parallel=True)),
    (DENSE, Split(dp_shard=4)),
    (MIXTURE, Split(dp_shard=4, ep=2)),
    (DENSE, Split(dp_replicate=2, pp=2)),
]


def gathered(tensor):
    """Return a tensor whole, the axis that cut it last gathered first."""
    tensor = tensor.detach()
    if not isinstance(tensor, DTensor):
        return tensor
    placements = list(tensor.placements)
    strided = any("Strided" in type(p).__name__ for p in placements)
    axes = range(len(placements))
    for axis in axes if strided else reversed(axes):
        placements[axis] = Replicate()
        tensor = tensor.redistribute(placements=placements)
    return tensor.to_local()


def test_weights_are_bit_identical_under_every_layout(tmp_path):
    for wrong in run(unlike_alone, 4, tmp_path):
        assert wrong == []
