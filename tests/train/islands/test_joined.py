"""Islands that join every step are data parallel training; all end with the same weights."""

from __future__ import annotations

import pytest
import torch
from tests.train.gloo import run
from tests.train.islands.test_exchange import Threads
from tests.train.small import named, small, whole
from torch import distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from torch.nn import functional

from crore.train.islands import Gate, Members, Outer, OuterState, mean

LR, ROWS, TOKENS = 0.1, 16, 100


def plain(interval):
    """Return the outer step that is plain averaging."""
    return Outer(interval=interval, lr=1.0, momentum=0.0, nesterov=False)


def inner_step(model, step, rows):
    """Take a step of SGD on some rows of a step's made-up batch."""
    draw = torch.Generator().manual_seed(step)
    tokens, targets = torch.randint(0, 11, (2, ROWS), generator=draw)
    model.zero_grad()
    functional.cross_entropy(model(tokens[rows]), targets[rows]).backward()
    with torch.no_grad():
        for p in model.parameters():
            p.sub_(p.grad, alpha=LR)


def own_rows(me, count):
    return slice(me * ROWS // count, (me + 1) * ROWS // count)


class Joined:
    """An island's outer steps, every one waited for at once, and taken up when it is due."""

    def __init__(self, params, outer, me, count, group):
        self.params, self.outer, self.state = params, outer, OuterState(params, outer)
        self.who = {"group": group, "me": me, "count": count, "judge": Gate().judge}
        self.sent = {}

    def mean(self, fragment):
        tokens = self.state.tokens[fragment]
        self.state.uncount(fragment, tokens)
        members = Members(weight=float(tokens), **self.who)
        return mean(members, self.state.delta(fragment, self.params), self.outer.bits)

    def after(self, step, tokens):
        self.state.count(tokens)
        fragment = self.outer.sends(step)
        if fragment is not None:
            self.sent[fragment] = self.mean(fragment)
        fragment = self.outer.takes(step)
        if fragment is not None:
            self.state.apply(fragment, self.sent[fragment].mean)
            self.state.take(fragment, self.params)

    def finish(self):
        """Join what is under way, and what was trained since."""
        for fragment in range(self.outer.fragments):
            self.state.settle(fragment, self.mean(fragment).mean)
            self.state.take(fragment, self.params, whole=True)


def island(model, me, count, group, outer, steps):
    """Train one island of `count`, join it as the settings say; return its weights."""
    params = named(model)
    joined = Joined(params, outer, me, count, group)
    for step in range(1, steps + 1):
        inner_step(model, step, own_rows(me, count))
        joined.after(step, TOKENS)
    if steps % outer.interval or outer.overlap or outer.fragments > 1:
        joined.finish()
    return {name: p.detach() for name, p in params.items()}


def data_parallel(steps):
    model = small()
    for step in range(1, steps + 1):
        inner_step(model, step, slice(None))
    return {name: p.detach() for name, p in named(model).items()}


def furthest(a, b):
    return max(float((a[name] - b[name]).detach().abs().max()) for name in a)


def on_gloo(count, outer, steps):
    return island(small(), dist.get_rank(), count, dist.group.WORLD, outer, steps)


@pytest.mark.parametrize("count", [2, 4])
def test_joined_every_step_by_plain_averaging_is_data_parallel(tmp_path, count):
    found = run(on_gloo, count, tmp_path, count, plain(1), 8)
    expected = data_parallel(8)
    for weights in found:
        assert furthest(weights, expected) < 1e-6
        assert furthest(weights, found[0]) == 0


def sharded(outer, steps):
    """Train two islands of two ranks each, that share their island's weights by FSDP."""
    model, rank = small(), dist.get_rank()
    mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("island", "dp_shard"))
    for layer in model.layers.values():
        fully_shard(layer, mesh=mesh["dp_shard"])
    fully_shard(model, mesh=mesh["dp_shard"])
    params, group = named(model), mesh["island"].get_group()
    joined = Joined(params, outer, rank // 2, 2, group)
    for step in range(1, steps + 1):
        inner_step(model, step, own_rows(rank, 4))
        joined.after(step, TOKENS)
    placed = joined.state.tensors(params)
    for name, p in params.items():
        shared = placed[f"{name}.global"]
        assert isinstance(shared, DTensor)
        assert isinstance(p, DTensor)
        assert shared.placements == p.placements
        assert torch.equal(whole(shared), whole(p))
    return {name: whole(p) for name, p in params.items()}


@pytest.mark.parametrize("bits", [32, 4])
def test_an_islands_ranks_each_join_their_own_shards(tmp_path, bits):
    outer = Outer(interval=1, bits=bits, lr=1.0, momentum=0.0)
    found = run(sharded, 4, tmp_path, outer, 4)
    for weights in found:
        assert furthest(weights, found[0]) == 0
        assert furthest(weights, data_parallel(4)) < (1e-6 if bits == 32 else 0.1)


OUTERS = [
    Outer(interval=4),
    Outer(interval=4, bits=4),
    Outer(interval=4, fragments=2, overlap=1),
    Outer(interval=4, fragments=2, overlap=1, bits=8),
    Outer(interval=3, fragments=3),
]


@pytest.mark.parametrize("outer", OUTERS)
@pytest.mark.parametrize("steps", [8, 11])
def test_all_islands_end_with_the_same_weights(outer, steps):
    models = [small() for _ in range(3)]
    found = Threads(3).map(lambda me, group: island(models[me], me, 3, group, outer, steps))
    for weights in found:
        assert furthest(weights, found[0]) == 0
    assert furthest(found[0], named(small())) > 1e-3


def test_a_broken_island_is_left_out_and_taken_back_in():
    """Its weights turn to infinity; the mean is the others', and it goes on from that."""
    models = [small() for _ in range(3)]

    def one(me, group):
        model, params = models[me], named(models[me])
        joined = Joined(params, plain(1), me, 3, group)
        if me == 1:
            with torch.no_grad():
                params["head.weight"][0, 0] = torch.inf
        else:
            inner_step(model, 1, own_rows(me, 3))
        joined.after(1, TOKENS)
        return joined.sent[0].verdict.fenced, dict(params)

    found = Threads(3).map(one)
    assert [fenced for fenced, _ in found] == [(False, True, False)] * 3
    for _, params in found:
        assert all(p.isfinite().all() for p in params.values())
        assert furthest(params, found[0][1]) == 0


def test_islands_of_different_speed_count_by_their_tokens():
    def one(me, group):
        params = {"a": torch.zeros(3)}
        joined = Joined(params, plain(1), me, 2, group)
        params["a"] += 1.0 - me
        joined.after(1, (300, 100)[me])
        return params["a"]

    for found in Threads(2).map(one):
        assert found.tolist() == [0.75] * 3
