"""Which sample comes when: a pure function of the seed and the global sample index.

Nothing is stored and nothing depends on ranks, so a run may stop anywhere and go on with any
number of ranks: no sample is skipped and none comes twice within an epoch of its source.
Arrays are `[n]`, one entry per global sample index.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
_Words = NDArray[np.uint64]

BLOCK: Final = 1000
"""Largest number of samples in which every source has its exact share: three digits of weight."""
ROUNDS: Final = 6
"""Of the Feistel network; four are enough against statistical tests, six cost microseconds."""
_STEP: Final = np.uint64(0x9E3779B97F4A7C15)
_MASK: Final = 2**64 - 1


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Mixture:
    """Samples of several sources in fixed proportions, evenly spread; the block repeats."""

    shares: tuple[int, ...]
    """Samples of each source in one block."""
    source: Ints
    """`[block]`: whose sample stands at each place of a block."""
    rank: Ints
    """`[block]`: how many samples of the same source stand before it in the block."""

    def place(self, indices: Ints) -> tuple[Ints, Ints]:
        """Return the source of each index, and the how-manieth sample of that source it is."""
        block, place = np.divmod(indices, len(self.source))
        source = self.source[place]
        return source, block * np.asarray(self.shares)[source] + self.rank[place]


def mixture(weights: Sequence[float]) -> Mixture:
    """Return the mixture with shares proportional to positive `weights`, to 1/1000.

    A source with less than 1/1000 gets one sample in a thousand.
    """
    shares = _whole_shares(weights)
    counts = [np.arange(share) for share in shares]
    ideal = np.concatenate([(n + 0.5) / len(n) for n in counts])
    order = np.argsort(ideal, kind="stable")
    source = np.repeat(np.arange(len(shares)), shares)[order]
    return Mixture(
        shares=shares, source=source.astype(np.int64), rank=np.concatenate(counts)[order]
    )


def _whole_shares(weights: Sequence[float]) -> tuple[int, ...]:
    """Round to whole samples of a block by largest remainder, then divide by what they share."""
    exact = np.asarray(weights, dtype=float) / sum(weights) * max(BLOCK, 2 * len(weights))
    shares = np.maximum(np.floor(exact + 1e-9).astype(np.int64), 1)
    missing = max(BLOCK, 2 * len(weights)) - int(shares.sum())
    if missing > 0:
        shares[np.argsort(shares - exact, kind="stable")[:missing]] += 1
    for _ in range(-missing):  # sources raised to one sample take it from the largest
        shares[np.argmax(shares)] -= 1
    common = math.gcd(*(int(s) for s in shares))
    return tuple(int(s) // common for s in shares)


@dataclass(frozen=True, kw_only=True, slots=True)
class Order:
    """The order of all samples of a run."""

    seed: int
    """Of the shuffles; any whole number."""
    mixture: Mixture
    """Of the sources."""
    windows: tuple[int, ...]
    """Samples in one epoch of each source, at least 1."""

    def locate(self, indices: Ints) -> tuple[Ints, Ints]:
        """Return the source and the window within it of each global sample index (>= 0)."""
        sources, nth = self.mixture.place(indices)
        found = np.empty_like(nth)
        for source, length in enumerate(self.windows):
            here = sources == source
            epoch, position = np.divmod(nth[here], length)
            found[here] = permute(position, length, keys(self.seed, source, epoch))
        return sources, found

    def epochs(self, samples: int) -> tuple[float, ...]:
        """Return how often each source has been read through after the first `samples` samples."""
        full, part = divmod(samples, len(self.mixture.source))
        begun = np.bincount(self.mixture.source[:part], minlength=len(self.windows))
        seen = full * np.asarray(self.mixture.shares) + begun
        return tuple(float(n) / length for n, length in zip(seen, self.windows, strict=True))


def keys(seed: int, source: int, epoch: Ints) -> _Words:
    """Return the `[n]` keys of the shuffle of `source` in each `epoch`."""
    words = np.asarray([seed & _MASK], dtype=np.uint64)
    words = _mix(_mix(words) + np.asarray([source + 1], dtype=np.uint64))
    return _mix(words + _STEP * (epoch.astype(np.uint64) + np.uint64(1)))


def permute(positions: Ints, length: int, key: _Words) -> Ints:
    """Return where a keyed shuffle of `length` things puts each of `positions` (0..length-1).

    A Feistel network over the smallest near-square rectangle that holds `length`, walked until it
    lands inside (Black and Rogaway, Ciphers with arbitrary finite domains, CT-RSA 2002): a
    bijection for each key, in constant memory.
    """
    rows = math.isqrt(max(length - 1, 0)) + 1
    columns = -(-length // rows)
    found = _feistel(positions.astype(np.uint64), key, rows, columns)
    while (outside := found >= np.uint64(length)).any():
        found[outside] = _feistel(found[outside], key[outside], rows, columns)
    return found.astype(np.int64)


def _feistel(values: _Words, key: _Words, rows: int, columns: int) -> _Words:
    """Permute 0..rows*columns-1: each round adds to one coordinate a hash of the other."""
    high, low = np.uint64(rows), np.uint64(columns)
    left, right = np.divmod(values, low)
    for number in range(0, ROUNDS, 2):
        left = (left + _mix(right ^ _round_key(key, number)) % high) % high
        right = (right + _mix(left ^ _round_key(key, number + 1)) % low) % low
    return left * low + right


def _round_key(key: _Words, number: int) -> _Words:
    return _mix(key + np.asarray([(number * int(_STEP)) & _MASK], dtype=np.uint64))


def _mix(words: NDArray[Any]) -> _Words:
    """Hash 64-bit words one to one (the finaliser of SplitMix64, Steele et al., OOPSLA 2014)."""
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: _Words = words ^ (words >> np.uint64(31))
    return mixed
