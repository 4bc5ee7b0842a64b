"""The outer step is SGD's, on fragments that cover every parameter once."""

from __future__ import annotations

import pytest
import torch
from tests.train.small import named, small

from crore.cost.islands import BLOCK_VALUES
from crore.train.islands import Outer, OuterState
from crore.train.islands.outer import fragments_of


def moved(params, seed):
    """Move parameters a little, as inner steps do."""
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in params.values():
            p.add_(torch.randn(p.shape, generator=draw), alpha=0.01)


def copied(params):
    return {name: p.detach().clone() for name, p in params.items()}


def test_every_parameter_is_in_one_fragment_and_layers_stay_whole():
    sizes = {name: 10 for i in range(7) for name in (f"layers.{i}.a", f"layers.{i}.b.weight")}
    sizes = {"embedding.weight": 30} | sizes | {"norm.weight": 1}
    dealt = fragments_of(sizes, 3)
    assert sorted(name for names in dealt for name in names) == sorted(sizes)
    for layer in range(7):
        assert sum(any(f"layers.{layer}." in n for n in names) for names in dealt) == 1
    filled = [sum(sizes[n] for n in names) for names in dealt]
    assert max(filled) - min(filled) <= 20


def test_layers_of_one_size_are_dealt_in_turn():
    dealt = fragments_of({f"layers.{i}.w": 4 for i in range(6)}, 2)
    assert dealt == [["layers.0.w", "layers.2.w", "layers.4.w"],
                     ["layers.1.w", "layers.3.w", "layers.5.w"]]  # fmt: skip


def test_more_fragments_than_layers_leave_some_empty():
    state = OuterState({"a": torch.ones(3)}, Outer(interval=2, fragments=2))
    assert state.delta(1, {"a": torch.ones(3)}).numel() == 0
    state.apply(1, torch.zeros(0))


@pytest.mark.parametrize("fragments", [1, 3])
@pytest.mark.parametrize(
    ("lr", "momentum", "nesterov"),
    [(0.7, 0.9, True), (0.7, 0.9, False), (1.0, 0.0, False), (0.4, 0.0, True)],
)
def test_rounds_are_the_steps_of_torchs_sgd(fragments, lr, momentum, nesterov):
    params = named(small())
    outer = Outer(interval=3, fragments=fragments, lr=lr, momentum=momentum, nesterov=nesterov)
    state = OuterState(params, outer)
    shared = copied(params)
    reference = torch.optim.SGD(
        shared.values(), lr=lr, momentum=momentum, nesterov=nesterov and momentum > 0
    )
    for seed in range(4):
        moved(params, seed)
        for name, weights in shared.items():
            weights.grad = weights - params[name].detach()
        reference.step()
        for fragment in range(fragments):
            state.apply(fragment, state.delta(fragment, params))
            state.take(fragment, params)
        for name, weights in shared.items():
            assert torch.equal(params[name], weights), name
    assert state.rounds == [4] * fragments


def test_plain_averaging_ends_at_the_mean_itself():
    params = {"a": torch.randn(5)}
    other = {"a": torch.randn(5)}
    state = OuterState({"a": torch.zeros(5)}, Outer(lr=1.0, momentum=0.0))
    state.apply(0, (state.delta(0, params) + state.delta(0, other)) / 2)
    expected = (params["a"] + other["a"]) / 2
    state.take(0, params)
    torch.testing.assert_close(params["a"], expected)


def test_mixing_leaves_an_island_a_part_of_its_own():
    params = {"a": torch.tensor([4.0, 8.0])}
    state = OuterState({"a": torch.zeros(2)}, Outer(overlap=1, mixing=0.25))
    state.take(0, params)
    assert params["a"].tolist() == [3.0, 6.0]
    state.take(0, params, whole=True)
    assert params["a"].tolist() == [0.0, 0.0]


def test_a_run_settles_at_the_islands_mean_without_momentum():
    state = OuterState({"a": torch.zeros(2)}, Outer())
    for end in (1.0, 1.5):
        state.apply(0, state.delta(0, {"a": torch.full((2,), end)}))
    state.settle(0, state.delta(0, {"a": torch.tensor([3.0, 5.0])}))
    params = {"a": torch.zeros(2)}
    state.take(0, params)
    torch.testing.assert_close(params["a"], torch.tensor([3.0, 5.0]))
    assert state.rounds == [3]


def test_each_parameter_begins_with_a_block_of_its_own():
    """So that a table two pipeline stages hold is rounded the same in both."""
    params = {"a": torch.ones(3), "b": torch.ones(2 * BLOCK_VALUES)}
    delta = OuterState(params, Outer()).delta(0, {name: p - 1 for name, p in params.items()})
    assert delta.numel() == 3 * BLOCK_VALUES
    assert delta.count_nonzero() == 2 * BLOCK_VALUES + 3
    assert delta.view(3, -1)[:, 0].tolist() == [1, 1, 1]


def test_state_is_loaded_in_place():
    params, other = named(small()), named(small())
    state, fresh = OuterState(params, Outer()), OuterState(other, Outer())
    moved(params, 1)
    state.apply(0, state.delta(0, params))
    state.count(30)
    for name, tensor in fresh.tensors(other).items():
        tensor.copy_(state.tensors(params)[name])
    fresh.load_facts(state.facts())
    for name, p in other.items():
        p.data.copy_(params[name].data)
    for each, mine in ((state, params), (fresh, other)):
        moved(mine, 2)
        each.apply(0, each.delta(0, mine))
        each.take(0, mine)
    assert fresh.facts() == state.facts() == {"rounds": [2], "tokens": [30]}
    assert all(torch.equal(params[name], other[name]) for name in params)


def test_an_island_that_missed_a_round_keeps_its_progress():
    params, peer = named(small()), named(small())
    late, state = OuterState(params, Outer()), OuterState(peer, Outer())
    moved(peer, 1)
    state.apply(0, state.delta(0, peer))
    moved(params, 2)
    progress = late.delta(0, params)
    late.rebase(params, state.tensors(peer), keep=True)
    torch.testing.assert_close(late.delta(0, params), progress)
    for name, tensor in late.tensors(params).items():
        assert torch.equal(tensor, state.tensors(peer)[name])


def test_an_island_that_comes_from_the_disk_brings_nothing():
    params, peer = named(small()), named(small())
    late, state = OuterState(params, Outer()), OuterState(peer, Outer())
    moved(peer, 1)
    state.apply(0, state.delta(0, peer))
    moved(params, 2)
    late.rebase(params, state.tensors(peer), keep=False)
    assert not late.delta(0, params).any()


def test_tokens_count_from_a_fragments_last_sending():
    state = OuterState({"a": torch.zeros(1)}, Outer(interval=2, fragments=2))
    state.count(10)
    sent = state.tokens[0]
    state.count(5)  # while it is on its way
    state.uncount(0, sent)
    assert state.tokens == [5, 15]
