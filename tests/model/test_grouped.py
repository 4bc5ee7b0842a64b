"""Products of many experts against a loop, as an operator that torch traces and differentiates."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.model.shapes import drawn
from torch.utils.flop_counter import FlopCounterMode

from crore.model.grouped import fits_kernel, grouped_linear, grouped_weight_gradient

COUNTS = ([3, 0, 4], [7, 0, 0], [0, 0, 7], [2, 2, 3])


def case(counts):
    """Return rows [7, 5], weights [3, 4, 5] and counts [3], in double precision."""
    x, weight = drawn(sum(counts), 5).double(), drawn(len(counts), 4, 5, seed=3).double()
    return x.requires_grad_(), weight.requires_grad_(), torch.tensor(counts)


def by_loop(x, weight, counts):
    parts = x.split(counts.tolist())
    return torch.cat([rows @ matrix.T for rows, matrix in zip(parts, weight, strict=True)])


@settings(max_examples=40)
@given(st.lists(st.integers(0, 5), min_size=1, max_size=4))
def test_each_experts_rows_meet_its_own_matrix(counts):
    x, weight, sizes = case(counts)
    out, expected = grouped_linear(x, weight, sizes), by_loop(x, weight, sizes)
    assert torch.allclose(out, expected)
    wanted = drawn(*out.shape, seed=4).double()
    grads = torch.autograd.grad((out * wanted).sum(), [x, weight])
    others = torch.autograd.grad((expected * wanted).sum(), [x, weight])
    assert all(torch.allclose(a, b) for a, b in zip(grads, others, strict=True))


@pytest.mark.parametrize("counts", COUNTS, ids=str)
def test_torch_accepts_it_as_an_operator(counts):
    x, weight, sizes = case(counts)
    # Without the check under symbolic shapes: that needs a compiler.
    checks = ("test_schema", "test_autograd_registration", "test_faketensor")
    done = torch.library.opcheck(grouped_linear, (x, weight, sizes), test_utils=checks)
    grad = drawn(sum(counts), 4).double()
    more = torch.library.opcheck(
        grouped_weight_gradient, (grad, x.detach(), sizes), test_utils=checks[:1] + checks[2:]
    )
    assert set(done.values()) | set(more.values()) == {"SUCCESS"}


def test_its_gradient_is_that_of_small_steps():
    x, weight, sizes = case([2, 0, 3])
    assert torch.autograd.gradcheck(lambda a, b: grouped_linear(a, b, sizes), (x, weight))


def test_an_expert_without_rows_has_a_gradient_of_zeros():
    x, weight, sizes = case([3, 0, 4])
    grouped_linear(x, weight, sizes).sum().backward()
    assert weight.grad is not None
    assert not weight.grad[1].any()
    assert weight.grad[0].any()


def test_without_data_it_has_a_shape():
    with torch.device("meta"):
        x, weight = torch.empty(9, 5), torch.empty(3, 4, 5)
        counts = torch.empty(3, dtype=torch.int64)
        assert grouped_linear(x, weight, counts).shape == (9, 4)
        assert grouped_weight_gradient(torch.empty(9, 4), x, counts).shape == (3, 4, 5)


def test_torch_counts_its_flops_forward_and_backward():
    x, weight, sizes = case([3, 0, 4])
    with FlopCounterMode(display=False) as forward:
        out = grouped_linear(x, weight, sizes)
    with FlopCounterMode(display=False) as backward:
        out.sum().backward()
    assert forward.get_total_flops() == 2 * 7 * 4 * 5
    assert backward.get_total_flops() == 2 * forward.get_total_flops()


@pytest.mark.parametrize("counts", COUNTS, ids=str)
def test_the_kernel_of_a_card_does_the_same_with_the_operands_it_is_given(counts):
    x, weight = drawn(7, 16).bfloat16(), drawn(3, 8, 16, seed=3).bfloat16()
    sizes = torch.tensor(counts)
    assert fits_kernel(x, weight)
    ends = sizes.cumsum(0).to(torch.int32)
    kernel = F.grouped_mm(x, weight.transpose(-2, -1), offs=ends)
    assert torch.allclose(grouped_linear(x, weight, sizes), kernel, rtol=2e-2, atol=2e-2)


@pytest.mark.parametrize(("outputs", "inputs"), [(8, 12), (4, 16)])
def test_widths_that_the_kernel_refuses_are_not_given_to_it(outputs, inputs):
    x, weight = drawn(7, inputs).bfloat16(), drawn(3, outputs, inputs).bfloat16()
    assert not fits_kernel(x, weight)
    assert not fits_kernel(drawn(7, 16), drawn(3, 8, 16))
