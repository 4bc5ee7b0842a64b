"""The order of samples: a bijection per epoch, exact shares, the same however it is asked for."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crore.train.data.order import Order, keys, mixture, permute

weights = st.lists(st.floats(0.01, 100.0), min_size=1, max_size=6)
lengths = st.integers(1, 300)


@st.composite
def orders(draw):
    parts = draw(weights)
    windows = draw(st.lists(lengths, min_size=len(parts), max_size=len(parts)))
    return Order(
        seed=draw(st.integers(-(2**70), 2**70)), mixture=mixture(parts), windows=tuple(windows)
    )


def shuffle(length, seed=3, source=0, epoch=0):
    positions = np.arange(length)
    return permute(positions, length, keys(seed, source, np.full(length, epoch)))


@given(st.integers(1, 2000), st.integers(0, 2**64), st.integers(0, 5), st.integers(0, 9))
def test_every_epoch_holds_every_sample_once(length, seed, source, epoch):
    assert sorted(shuffle(length, seed, source, epoch)) == list(range(length))


def test_a_shuffle_of_a_trillion_samples_stays_inside_and_repeats_nothing():
    length = 10**12 + 39
    positions = np.random.default_rng(0).integers(0, length, 10_000)
    found = permute(positions, length, keys(1, 0, np.zeros(10_000, dtype=np.int64)))
    assert found.min() >= 0
    assert found.max() < length
    assert len(np.unique(found)) == len(np.unique(positions))


@pytest.mark.parametrize("other", [{"seed": 4}, {"source": 1}, {"epoch": 1}])
def test_seeds_sources_and_epochs_have_shuffles_of_their_own(other):
    same = np.mean(shuffle(5000) == shuffle(5000, **other))
    assert same < 0.01


def test_a_shuffle_is_near_random():
    # Neighbours are to be far apart and places unrelated to values: z-scores of about 1.
    found = shuffle(10_000).astype(float)
    assert abs(np.corrcoef(found, np.arange(10_000))[0, 1]) < 0.04
    assert abs(np.corrcoef(found[1:], found[:-1])[0, 1]) < 0.04
    assert abs(np.abs(np.diff(found)).mean() / (10_000 / 3) - 1) < 0.05


@given(orders(), st.integers(0, 10**12))
def test_every_source_reads_each_sample_once_before_it_repeats_one(order, block):
    """From any epoch on: the samples of one epoch of a source are all of its windows."""
    source = 0
    share, size = order.mixture.shares[source], order.windows[source]
    epoch = block % 1000
    places = np.flatnonzero(order.mixture.source == source)
    nth = np.arange(epoch * size, (epoch + 1) * size)
    indices = nth // share * len(order.mixture.source) + places[nth % share]
    sources, windows = order.locate(indices)
    assert set(sources) == {source}
    assert sorted(windows) == list(range(size))


@given(orders(), st.integers(0, 10**9), st.integers(1, 8), st.integers(1, 60))
def test_any_split_over_ranks_gives_the_same_samples(order, start, ranks, count):
    indices = np.arange(start, start + count)
    whole = np.stack(order.locate(indices))
    for rank in range(ranks):
        part = np.stack(order.locate(indices[rank::ranks]))
        assert np.array_equal(part, whole[:, rank::ranks])


@given(weights, st.integers(0, 10**6))
def test_shares_are_exact_in_every_block_and_near_the_weights(parts, block):
    mix = mixture(parts)
    size = sum(mix.shares)
    sources, _ = mix.place(np.arange(block * size, (block + 1) * size))
    assert tuple(np.bincount(sources, minlength=len(parts))) == mix.shares
    wanted = np.array(parts) / sum(parts)
    error = np.abs(np.array(mix.shares) / size - wanted)
    assert error.max() <= 0.001 * len(parts)


def test_round_weights_are_kept_exactly():
    assert mixture([0.6, 0.3, 0.1]).shares == (6, 3, 1)
    assert mixture([1.0]).shares == (1,)
    assert mixture([1, 1, 1]).shares == (334, 333, 333)
    assert mixture([1e-9, 1.0]).shares == (1, 999)


@given(weights)
def test_sources_are_spread_evenly_within_a_block(parts):
    """At no point is a source further from its share than the number of sources."""
    mix = mixture(parts)
    size = len(mix.source)
    for source, share in enumerate(mix.shares):
        seen = np.cumsum(mix.source == source)
        assert np.abs(seen - share / size * np.arange(1, size + 1)).max() <= len(parts)


def test_epochs_count_what_was_read():
    order = Order(seed=0, mixture=mixture([0.75, 0.25]), windows=(30, 5))
    assert order.epochs(0) == (0.0, 0.0)
    assert order.epochs(40) == (1.0, 2.0)
    sources, _ = order.locate(np.arange(37))
    counted = tuple(np.bincount(sources) / np.array([30, 5]))
    assert order.epochs(37) == pytest.approx(counted)
