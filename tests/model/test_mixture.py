"""The mixture against a loop over tokens; nothing dropped, loads evened, the router's own loss."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from tests.model.shapes import BIASED_EXPERTS, MIXTURE, drawn, made

from crore.model.mixture import BALANCE_RATE, Mixture, arrange, inverse, mixtures

PLAIN = replace(MIXTURE, gated_mlp=False, shared_ffn=0)
ONE = replace(MIXTURE, topk=1)
SHAPES = {"gated, shared": MIXTURE, "biased": BIASED_EXPERTS, "plain, none shared": PLAIN,
          "one expert a token": ONE}  # fmt: skip


def mixture_of(spec) -> Mixture:
    found = mixtures(made(spec))
    assert len(found) == spec.layers - spec.first_dense
    with torch.no_grad():
        for n, parameter in enumerate(found[0].parameters()):
            parameter.copy_(drawn(*parameter.shape, seed=n) * 0.4)
    return found[0]


def expert(module, number, row):
    """Run one expert on one token."""
    x = module.experts

    def linear(weight, bias, value):
        out = weight[number] @ value
        return out if bias is None else out + bias[number]

    up = linear(x.up, x.up_bias, row)
    if x.gate is not None:
        inner = F.silu(linear(x.gate, x.gate_bias, row)) * up
    else:
        inner = F.gelu(up, approximate="tanh")
    return linear(x.down, x.down_bias, inner)


def one_by_one(module, x):
    """Equations 12-16 of arXiv 2412.19437, token by token."""
    rows = []
    for row in x.flatten(0, 1):
        scores = torch.sigmoid(module.router.weight @ row)
        chosen = (scores + module.balance).topk(module.topk).indices
        total = scores[chosen].sum() if module.topk > 1 else torch.ones(())
        out = sum(scores[n] / total * expert(module, n, row) for n in chosen)
        rows.append(out if module.shared is None else out + module.shared(row))
    return torch.stack(rows).view_as(x)


@pytest.mark.parametrize("spec", SHAPES.values(), ids=SHAPES.keys())
def test_it_is_a_loop_over_tokens_forward_and_backward(spec):
    module, x = mixture_of(spec), drawn(2, 9, 32).requires_grad_()
    module.balance.copy_(drawn(6, seed=8) * 0.3)
    wanted = drawn(2, 9, 32, seed=9)
    results = []
    for run in (module, lambda rows: one_by_one(module, rows)):
        out = run(x)
        values = [x, *module.parameters()]
        grads = torch.autograd.grad((out * wanted).sum(), values, allow_unused=True)
        results.append((out, grads))
    (out, grads), (expected, by_loop) = results
    assert torch.allclose(out, expected, atol=1e-4)
    names = ["input", *(name for name, _ in module.named_parameters())]
    for name, grad, other in zip(names, grads, by_loop, strict=True):
        assert grad.any(), name
        assert torch.allclose(grad, other, atol=2e-3, rtol=1e-4), name


@pytest.mark.parametrize("spec", [MIXTURE, ONE], ids=["two experts a token", "one"])
def test_no_token_is_dropped_when_all_choose_the_same_experts(spec):
    module, x = mixture_of(spec), drawn(2, 50, 32)
    module.balance[:] = -100.0
    module.balance[: spec.topk] = 100.0
    assert torch.allclose(module(x), one_by_one(module, x), atol=1e-4)
    assert module.load.tolist() == [100.0] * spec.topk + [0.0] * (6 - spec.topk)


def test_weights_of_a_token_sum_to_one():
    module = mixture_of(MIXTURE)
    weights, chosen = module._choose(drawn(40, 6) * 3)
    assert torch.allclose(weights.sum(-1), torch.ones(40))
    assert all(len(set(row)) == 2 for row in chosen.tolist())


def test_weights_are_finite_where_every_score_is_zero():
    weights, _ = mixture_of(MIXTURE)._choose(torch.full((3, 6), -1000.0))
    assert torch.isfinite(weights).all()


def test_softmax_routers_weigh_over_all_experts_or_over_the_chosen():
    logits = drawn(40, 6) * 3
    everywhere = logits.softmax(-1)
    weights, chosen = mixture_of(replace(MIXTURE, router="softmax"))._choose(logits)
    assert torch.equal(chosen, logits.topk(2).indices)
    assert torch.equal(weights, everywhere.gather(-1, chosen))
    weights, _ = mixture_of(replace(MIXTURE, router="softmax-topk"))._choose(logits)
    assert torch.allclose(weights, logits.gather(-1, chosen).softmax(-1))


def test_a_softmax_router_gets_no_bias():
    module = mixture_of(replace(MIXTURE, router="softmax-topk"))
    module.load.copy_(torch.arange(6.0))
    module.rebalance()
    assert not module.balance.any()
    assert not module.load.any()


def test_the_router_of_one_expert_a_token_learns():
    module = mixture_of(ONE)
    module(drawn(1, 9, 32)).sum().backward()
    assert module.router.weight.grad is not None
    assert module.router.weight.grad.abs().max() > 1e-3


def test_a_bias_decides_who_is_chosen_and_not_with_what_weight():
    module = mixture_of(MIXTURE)
    logits = torch.tensor([[3.0, 2.0, 1.0, 0.0, -1.0, -2.0]])
    module.balance[5] = 2.0
    weights, chosen = module._choose(logits)
    assert chosen.tolist() == [[5, 0]]
    scores = torch.sigmoid(logits[0, [5, 0]])
    assert torch.allclose(weights[0], scores / scores.sum())


def test_loads_are_counted_in_training_alone():
    module = mixture_of(MIXTURE)
    module.eval()(drawn(1, 8, 32))
    assert not module.load.any()
    module.train()(drawn(1, 8, 32))
    module(drawn(1, 8, 32))
    assert module.load.sum() == 2 * 8 * 2


def test_rebalancing_moves_each_bias_against_its_load_and_counts_anew():
    module = mixture_of(MIXTURE)
    module.load.copy_(torch.tensor([9.0, 1.0, 5.0, 5.0, 8.0, 2.0]))
    module.rebalance()
    assert module.balance.tolist() == pytest.approx(
        [-BALANCE_RATE, BALANCE_RATE, 0, 0, -BALANCE_RATE, BALANCE_RATE]
    )
    assert not module.load.any()


def test_loads_even_out_over_steps_on_tokens_that_all_like_the_same_experts():
    module = mixture_of(MIXTURE)
    x = drawn(4, 64, 32) * 0.2 + module.router.weight[0].detach() * 0.5
    spreads = []
    with torch.no_grad():
        for _ in range(200):
            module(x)
            spreads.append(float(module.load.max() / module.load.mean()))
            module.rebalance(0.01)
    assert spreads[0] > 2.5
    assert sum(spreads[-20:]) / 20 < 1.3


def test_the_routers_z_loss_has_the_gradient_of_its_term():
    module, x = mixture_of(MIXTURE), drawn(2, 9, 32)
    weight = 0.01
    plain = torch.autograd.grad(module(x).sum(), module.router.weight)[0]
    logits = module.router(x.flatten(0, 1))
    term = weight * torch.logsumexp(logits, -1).square().sum()
    expected = plain + torch.autograd.grad(term, module.router.weight)[0]
    module.z_scale = weight
    out = module(x)
    assert torch.equal(out, module.eval()(x))
    assert torch.allclose(
        torch.autograd.grad(out.sum(), module.router.weight)[0], expected, atol=1e-4
    )


def test_in_16_bits_it_follows_fp32():
    module, x = mixture_of(MIXTURE), drawn(2, 9, 32)
    wide = module(x)
    out = module.to(torch.bfloat16)(x.bfloat16())
    assert out.dtype == torch.bfloat16
    # A token whose experts are all but equal may go to another one.
    near = (out.float() - wide).norm(dim=-1) < 0.05 * wide.norm(dim=-1)
    assert near.float().mean() > 0.85


@given(st.integers(1, 6), st.integers(1, 3), st.randoms(use_true_random=False))
def test_rows_are_arranged_and_brought_back(rows, copies, random):
    places = list(range(rows * copies))
    random.shuffle(places)
    order = torch.tensor(places)
    back = inverse(order)
    assert torch.equal(order[back], torch.arange(rows * copies))
    x = drawn(rows, 3).double().requires_grad_()
    arranged = arrange(x, order, back, copies)
    assert torch.equal(arranged, x.repeat_interleave(copies, dim=0)[order])
    assert torch.equal(arrange(arranged, back, order, 1), x.repeat_interleave(copies, dim=0))
    assert torch.autograd.gradcheck(lambda y: arrange(y, order, back, copies), x)
