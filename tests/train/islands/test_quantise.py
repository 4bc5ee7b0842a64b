"""Values survive packing to within half a step, and what is not finite does not hide."""

from __future__ import annotations

import hypothesis
import hypothesis.extra.numpy as arrays
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from crore.cost.islands import BLOCK_VALUES, outer_bytes, sent_bits
from crore.train.islands.quantise import LARGEST, SLAB_VALUES, pack, packed_bytes, unpack
from crore.train.islands.settings import BITS

VECTORS = arrays.arrays(
    np.float32, st.integers(0, 3 * BLOCK_VALUES),
    elements=st.floats(-(2.0**100), 2.0**100, width=32),
)  # fmt: skip


def round_trip(values, bits):
    return unpack(pack(values, bits), values.numel(), bits)


def largest_by_block(values):
    padded = torch.nn.functional.pad(values.abs(), (0, -len(values) % BLOCK_VALUES))
    return padded.view(-1, BLOCK_VALUES).amax(1).repeat_interleave(BLOCK_VALUES)[: len(values)]


@pytest.mark.parametrize("bits", [8, 4])
@given(values=VECTORS)
def test_a_value_is_off_by_half_a_step_of_its_block_at_most(bits, values):
    values = torch.from_numpy(values)
    off = (round_trip(values, bits).double() - values.double()).abs()
    step = largest_by_block(values).double() / LARGEST[bits]
    # The step itself is rounded to bfloat16, by one in 256 at most; none is below float32's least.
    assert (off <= 0.5 * torch.clamp(step * (1 + 1 / 256), min=2.0**-126)).all()


@given(values=VECTORS)
def test_sixteen_bits_are_bfloat16_and_thirty_two_are_exact(values):
    values = torch.from_numpy(values)
    assert torch.equal(round_trip(values, 16), values.bfloat16().float())
    assert torch.equal(round_trip(values, 32), values)


@pytest.mark.parametrize("bits", BITS)
@given(values=VECTORS)
def test_packing_is_repeatable_symmetric_and_stable(bits, values):
    values = torch.from_numpy(values)
    packed = pack(values, bits)
    assert packed.numel() == packed_bytes(values.numel(), bits)
    assert torch.equal(packed, pack(values.clone(), bits))
    assert torch.equal(round_trip(-values, bits), -round_trip(values, bits))


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("wrong", [torch.nan, torch.inf, -torch.inf])
@hypothesis.settings(max_examples=20)
@given(place=st.integers(0, 4 * BLOCK_VALUES - 1))
def test_what_is_not_finite_stays_so_and_in_its_block(bits, wrong, place):
    values = torch.linspace(-1, 1, 4 * BLOCK_VALUES)
    values[place] = wrong
    found = round_trip(values, bits)
    assert not found[place].isfinite()
    block = place // BLOCK_VALUES * BLOCK_VALUES
    assert found[:block].isfinite().all()
    assert found[block + BLOCK_VALUES :].isfinite().all()


@pytest.mark.parametrize("bits", BITS)
def test_whole_blocks_are_packed_values_themselves(bits):
    values = torch.randn(6 * BLOCK_VALUES)
    packed = pack(values, bits)
    part = packed[packed_bytes(2 * BLOCK_VALUES, bits) : packed_bytes(5 * BLOCK_VALUES, bits)]
    middle = values[2 * BLOCK_VALUES : 5 * BLOCK_VALUES]
    assert torch.equal(part, pack(middle, bits))
    assert torch.equal(unpack(part, len(middle), bits), round_trip(middle, bits))


@pytest.mark.parametrize("bits", [8, 4])
def test_many_values_are_packed_as_few_are(bits):
    values = torch.randn(SLAB_VALUES + 300)
    assert torch.equal(round_trip(values, bits)[-300:], round_trip(values[-300:], bits))


@pytest.mark.parametrize("bits", BITS)
def test_the_cost_model_counts_the_same_bytes(bits):
    values = 1000 * BLOCK_VALUES
    assert packed_bytes(values, bits) == values * sent_bits(bits) / 8


def test_four_bits_every_fifty_steps_send_a_hundred_and_eightieth_of_data_parallel():
    a_step = float(outer_bytes(1e9, 2, 16))
    a_round = float(outer_bytes(1e9, 2, 4))
    assert a_step / (a_round / 50) > 180


@pytest.mark.parametrize(("bits", "relative"), [(16, 1e-5), (8, 1e-4), (4, 2e-2)])
def test_the_mean_square_error_of_normal_values(bits, relative):
    """A uniform step of a block's largest value, 2.7 deviations of 128: (2.7/7)²/12 for 4 bits."""
    values = torch.randn(100_000, generator=torch.Generator().manual_seed(1))
    off = (round_trip(values, bits) - values).square().mean()
    assert relative / 10 < off < relative
