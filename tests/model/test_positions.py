"""Rotary embeddings against complex numbers, ALiBi's published slopes, and masks value by value."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.model.shapes import drawn

from crore.model.count import pairs
from crore.model.positions import Mask, Rotary, alibi_slopes


def rotary(width, positions, base=10_000.0):
    made = Rotary(width, base)
    made.reset(positions)
    return made


def turned(x, positions, base=10_000.0):
    """Multiply number pairs (i, i + D/2) of [B, S, H, D] by e^(i·angle), in double precision."""
    half = x.shape[-1] // 2
    z = torch.complex(x[..., :half].double(), x[..., half:].double())
    rate = base ** (-torch.arange(half, dtype=torch.float64) / half)
    angle = positions.double()[:, None] * rate
    z = z * torch.polar(torch.ones_like(angle), angle)[:, None]
    return torch.cat([z.real, z.imag], dim=-1)


@pytest.mark.parametrize("base", [10_000.0, 500_000.0])
@pytest.mark.parametrize("first", [0, 1000])
def test_rotary_is_a_product_of_complex_numbers(base, first):
    positions = torch.arange(first, first + 9)
    x = drawn(2, 9, 3, 8)
    out = rotary(8, positions, base)(x)
    assert torch.allclose(out.double(), turned(x, positions, base), atol=3e-4 if first else 2e-6)


def test_rotary_turns_by_the_distance_of_two_tokens_alone():
    q, k = drawn(1, 1, 1, 8, seed=1), drawn(1, 1, 1, 8, seed=2)

    def product(at_q, at_k):
        one, other = (
            rotary(8, torch.tensor([at]))(x) for at, x in ((at_q, q), (at_k, k))
        )  # fmt: skip
        return float((one * other).sum())

    assert product(17, 12) == pytest.approx(product(105, 100), abs=1e-4)
    assert product(17, 12) != pytest.approx(product(17, 13), abs=1e-3)


def test_rotary_of_16_bit_numbers_is_made_in_fp32_and_rounded_once():
    positions = torch.arange(4000, 4032)
    x = drawn(1, 32, 2, 16).bfloat16()
    module = rotary(16, positions)
    out = module(x)
    assert out.dtype == torch.bfloat16
    assert torch.equal(out, module(x.float()).bfloat16())


def test_rotary_takes_fewer_tokens_than_it_has_tables_for():
    module, x = rotary(8, torch.arange(32)), drawn(1, 32, 1, 8)
    assert torch.equal(module(x[:, :5]), module(x)[:, :5])


# The paper's reference code (github.com/ofirpress/attention_with_linear_biases), get_slopes.
def test_slopes_of_8_heads_are_those_published():
    assert alibi_slopes(8).tolist() == [2.0**-n for n in range(1, 9)]


def test_slopes_of_16_heads_start_at_the_root_of_a_half():
    expected = [2 ** (-n / 2) for n in range(1, 17)]
    assert alibi_slopes(16).tolist() == pytest.approx(expected)


@pytest.mark.parametrize(
    ("heads", "power", "further"),
    [
        (12, [2.0**-n for n in range(1, 9)], [2 ** -(n + 0.5) for n in range(4)]),
        (40, [2 ** (-n / 4) for n in range(1, 33)], [2 ** -(0.125 + n / 4) for n in range(8)]),
    ],
)
def test_slopes_beyond_a_power_of_two_lie_between(heads, power, further):
    assert alibi_slopes(heads).tolist() == pytest.approx(power + further)


@pytest.mark.parametrize("heads", [1, 2, 3, 7, 12, 40, 112])
def test_slopes_are_one_per_head_and_distinct(heads):
    slopes = alibi_slopes(heads).tolist()
    assert len(set(slopes)) == heads
    assert all(0 < slope < 1 for slope in slopes)


def test_a_mask_without_window_or_slopes_is_causality_alone():
    assert Mask(0, alibi=False).causal_alone
    assert not Mask(3, alibi=False).causal_alone
    assert not Mask(0, alibi=True).causal_alone


def test_a_window_shows_a_token_itself_and_those_before_it():
    seen = Mask(3, alibi=False).tensor(6, torch.empty(0))
    expected = [
        [0 if 0 <= query - key < 3 else -math.inf for key in range(6)] for query in range(6)
    ]
    assert seen.tolist() == [expected]


@given(st.integers(1, 40), st.integers(0, 50))
def test_a_window_shows_as_many_pairs_as_are_counted(keys, window):
    seen = Mask(window, alibi=False).tensor(keys, torch.empty(0))
    assert int((seen == 0).sum()) == pairs(keys, window)


def test_alibi_takes_away_the_distance_times_a_heads_slope():
    mask = Mask(0, alibi=True)
    mask.reset(torch.tensor([0.5, 0.25]))
    seen = mask.tensor(3, torch.empty(0))
    inf = math.inf
    assert seen.tolist() == [
        [[0, -inf, -inf], [-0.5, 0, -inf], [-1, -0.5, 0]],
        [[0, -inf, -inf], [-0.25, 0, -inf], [-0.5, -0.25, 0]],
    ]


def test_a_window_hides_under_alibi_too():
    mask = Mask(2, alibi=True)
    mask.reset(torch.tensor([1.0]))
    assert mask.tensor(3, torch.empty(0))[0, 2].tolist() == [-math.inf, -1, 0]


def test_a_mask_is_made_once_for_a_length_and_a_type():
    mask = Mask(4, alibi=False)
    first = mask.tensor(8, torch.empty(0))
    assert mask.tensor(8, torch.empty(3)) is first
    narrow = mask.tensor(8, torch.empty(0, dtype=torch.bfloat16))
    assert narrow.dtype == torch.bfloat16
    assert mask.tensor(9, torch.empty(0)).shape == (1, 9, 9)
    assert mask.tensor(8, torch.empty(0, device="meta")).device.type == "meta"
    assert mask.tensor(8, torch.empty(0)).device.type == "cpu"


def test_new_slopes_make_a_new_mask():
    mask = Mask(0, alibi=True)
    mask.reset(torch.tensor([1.0]))
    assert float(mask.tensor(3, torch.empty(0))[0, 2, 0]) == -2.0
    mask.reset(torch.tensor([0.5]))
    assert float(mask.tensor(3, torch.empty(0))[0, 2, 0]) == -1.0
