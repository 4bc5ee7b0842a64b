"""The weighted mean of a vector over islands, in few bits, the same to the last bit on all of them.

Rank k of every island forms one group and has its own part of the weights. Each member owns one
chunk of the vector: it is sent that chunk by all others (reduce-scatter), adds up in fp32, and
sends the mean to all (all-gather). In between the members share who sent what: the products of all
pairs of vectors, from which the judge knows norms and angles before anything is added.
n: values, M: members, C: values of a chunk.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, Protocol

import torch
from torch import Tensor
from torch.distributed import AllToAllOptions, Work

from crore.cost.islands import BLOCK_VALUES
from crore.train.islands.gate import Verdict, nobody
from crore.train.islands.quantise import SLAB_VALUES, pack, packed_bytes, unit_values, unpack

WAIT_S: Final = 60.0
"""An island that is silent for so long in an exchange counts as gone."""
FACT_BYTES: Final = 8
"""Of a number the members share about a round: float64."""


class Group(Protocol):
    """What is needed of a process group: torch's and torchft's both have it, for gloo too."""

    def alltoall_base(
        self, output: Tensor, input: Tensor, output_split_sizes: list[int],  # noqa: A002
        input_split_sizes: list[int], opts: AllToAllOptions, /,
    ) -> Work:  # fmt: skip
        """Send equal parts of `input` to the members, in turn."""


def products_of(received: Tensor, chunk: int, bits: int) -> Tensor:
    """Return the products of all pairs of the members' packed chunks [M, bytes], float64 [M, M]."""
    count = len(received)
    found = torch.zeros(count, count, dtype=torch.float64, device=received.device)
    size = max(1, SLAB_VALUES // BLOCK_VALUES // count) * BLOCK_VALUES
    for first in range(0, chunk, size):
        values = min(size, chunk - first)
        start, length = packed_bytes(first, bits), packed_bytes(values, bits)
        rows = received[:, start : start + length].reshape(-1)
        slab = unpack(rows, count * values, bits).view(count, values)
        found += (slab @ slab.T).double()
    return found


@dataclass(frozen=True, kw_only=True, slots=True)
class Members:
    """Who exchanges, and what each of them counts for."""

    group: Group | None
    """None where one member is alone."""
    me: int
    """This member's place in the group."""
    count: int
    weight: float
    """Of this member's values: the tokens they were made from; 0 only receives."""
    judge: Callable[[Tensor, Tensor], Verdict] = nobody
    """Told the products of the vectors [M, M] and the weights [M], both float64 on the CPU, says
    who is left out; it must say the same on all members."""
    together: Callable[[Tensor], Tensor] = lambda products: products
    """Adds the products over the ranks of an island, so that an island is judged as a whole. It
    runs beside training: a group it uses must be used by nothing else."""
    products: Callable[[Tensor, int, int], Tensor] = products_of
    """Makes the products of received chunks of so many values in so many bits."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Exchanged:
    """What a round came to; the same on all members but for the bytes."""

    mean: Tensor
    """fp32 [n], of the members with a weight who were not left out; zeros where there are none."""
    verdict: Verdict
    weights: tuple[float, ...]
    """As the members gave them."""
    bytes_sent: int
    """Packed values that this member sent."""
    fact_bytes: int
    """Beside them: products and weights."""


@torch.no_grad()
def mean(members: Members, values: Tensor, bits: int) -> Exchanged:
    """Return the members' mean of fp32 `values` [n], by weight, at `bits` a value.

    Every member must call it with as many values and bits. Raises what the group raises when a
    member is lost; then nothing has been changed.
    """
    length, count = values.numel(), members.count
    chunk = _chunk_values(length, count, bits)
    packed = pack(torch.nn.functional.pad(values, (0, chunk * count - length)), bits)
    received = _to_owners(members, packed)
    weights, products = _share_facts(members, members.products(received, chunk, bits))
    verdict = members.judge(products, weights)
    kept = weights.masked_fill(torch.tensor(verdict.fenced), 0.0)
    own = pack(_weighted_mean(received, kept, chunk, bits), bits)
    everywhere = _to_all(members, own)
    return Exchanged(
        mean=unpack(everywhere.view(-1), chunk * count, bits)[:length], verdict=verdict,
        weights=tuple(weights.tolist()),
        bytes_sent=2 * (count - 1) * own.numel(),
        fact_bytes=(count - 1) * (count * count + 1) * FACT_BYTES,
    )  # fmt: skip


def _chunk_values(length: int, members: int, bits: int) -> int:
    """Return the values a member owns: as many for each, in whole blocks."""
    unit = unit_values(bits)
    return -(-length // (members * unit)) * unit


def _to_owners(members: Members, packed: Tensor) -> Tensor:
    """Send each member its part; return what all members sent to this one, [M, bytes]."""
    received = torch.empty_like(packed)
    if members.group is None:
        received.copy_(packed)
    else:
        options = AllToAllOptions()
        options.timeout = timedelta(seconds=WAIT_S)
        members.group.alltoall_base(received, packed, [], [], options).wait()
    return received.view(members.count, -1)


def _to_all(members: Members, own: Tensor) -> Tensor:
    """Send all members the same; return what all sent, [M, values]."""
    return _to_owners(members, own.repeat(members.count))


def _share_facts(members: Members, products: Tensor) -> tuple[Tensor, Tensor]:
    """Return all members' weights [M] and the products over all chunks [M, M], on the CPU."""
    own = torch.cat([products.new_tensor([members.weight]), products.view(-1)])
    rows = _to_all(members, own).cpu()
    # Rows are added in the same order everywhere: the sums are the same to the last bit.
    added = rows[:, 1:].sum(0).view(members.count, members.count)
    return rows[:, 0], members.together(added)


def _weighted_mean(received: Tensor, weights: Tensor, chunk: int, bits: int) -> Tensor:
    """Return the mean of the members' chunks [C], added up in fp32, member after member."""
    total = float(weights.sum())
    found = torch.zeros(chunk, device=received.device)
    for row, weight in zip(received, weights.tolist(), strict=True):
        if weight:  # what does not count may not be finite
            found.add_(unpack(row, chunk, bits), alpha=weight / total)
    return found
