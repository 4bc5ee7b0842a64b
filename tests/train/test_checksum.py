"""One number for the weights of a world: any bit changes it, and all ranks know the same."""

from __future__ import annotations

import pytest
import torch
import torch.distributed as dist
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.train.gloo import run
from tests.train.small import SPREADS, small

from crore.train.checksum import MODULUS, checksum, whole_checksum
from crore.train.local import local_part

TYPES = (
    torch.float32, torch.bfloat16, torch.float16, torch.float64, torch.float8_e4m3fn, torch.int64,
    torch.int32, torch.uint8,
)  # fmt: skip
BYTES = st.binary(min_size=16, max_size=16)


def of(dtype: torch.dtype, content: bytes) -> torch.Tensor:
    return torch.frombuffer(bytearray(content), dtype=torch.uint8).view(dtype)


@pytest.mark.parametrize("dtype", TYPES, ids=str)
@settings(max_examples=15)
@given(content=BYTES, before=BYTES)
def test_any_single_bit_changes_it(dtype, content, before):
    whole = checksum([of(dtype, before), of(dtype, content)])
    assert 0 <= whole < MODULUS
    for bit in range(8 * len(content)):
        flipped = bytearray(content)
        flipped[bit // 8] ^= 1 << bit % 8
        assert checksum([of(dtype, before), of(dtype, bytes(flipped))]) != whole


def test_a_zero_that_turns_into_no_number_at_all_changes_it():
    """All of a word's bits but its sign at once: the difference is 2^31 - 1."""
    torn = torch.tensor([0x7FFFFFFF], dtype=torch.int32).view(torch.float32)
    assert checksum([torn]) != checksum([torch.tensor([0.0])])


def test_a_bit_of_float64_that_wraps_the_sum_changes_it():
    """Flipping bit 33 adds 2^33, which is 4 modulo 2^31 - 1, and the wrap takes 2^64 away."""
    words = torch.tensor([2**62, 2**62 - 2**33])
    before = checksum([words.view(torch.float64)])
    words[0] ^= 1 << 33
    assert checksum([words.view(torch.float64)]) != before


def test_what_is_equal_by_value_and_not_by_bits_differs():
    assert checksum([torch.tensor([0.0])]) != checksum([torch.tensor([-0.0])])
    nans = [torch.tensor([word], dtype=torch.int32).view(torch.float32) for word in (
        0x7FC00000, 0x7FC00001,
    )]  # fmt: skip
    assert checksum(nans[:1]) != checksum(nans[1:])


def test_tensors_that_change_places_change_it():
    a, b = torch.randn(5), torch.randn(5)
    assert checksum([a, b]) != checksum([b, a])
    assert checksum([a, b]) != checksum([a])


def test_how_a_tensor_lies_in_memory_does_not():
    table = torch.randn(4, 6)
    assert checksum([table.T]) == checksum([table.T.contiguous()])
    assert checksum([table[:, ::2]]) == checksum([table[:, ::2].clone()])


def test_no_rows_no_tensors_and_a_single_number():
    assert checksum([]) == 0
    assert checksum([torch.empty(0, 3)]) == 0
    assert checksum([torch.tensor(1.5)]) == checksum([torch.tensor([1.5])]) > 0
    weight = torch.nn.Parameter(torch.ones(2))
    assert checksum([weight]) == checksum([weight.detach()])


def test_a_world_of_one_rank_has_its_own():
    tensors = list(small().parameters())
    assert whole_checksum(tensors) == checksum(tensors)


def sums_over_ranks(spread: str) -> tuple[int, int, int]:
    """Return the checksum of a spread model, as it is, and after one bit of the last rank's."""
    model = small()
    SPREADS[spread][1](model)
    tensors = list(model.parameters())
    before = whole_checksum(tensors)
    if dist.get_rank() == dist.get_world_size() - 1:
        own = next(part for part in map(local_part, tensors) if part.numel())
        own.detach().view(-1).view(torch.int32)[0] ^= 1
    return before, whole_checksum(tensors), checksum(tensors)


def test_over_ranks_that_hold_shards_it_is_that_of_the_whole(tmp_path):
    alone = checksum(small().parameters())
    first, second = run(sums_over_ranks, 2, tmp_path, "fsdp2")
    assert first[0] == second[0] == alone
    assert first[1] == second[1] != alone
    assert first[2] != second[2]
