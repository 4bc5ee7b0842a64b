"""States of components: independent, as often as asked, and the worst of them found."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crore.errors import InputError
from crore.simulate.fabric import components
from crore.simulate.fabric.components import (
    Frailty,
    compute_factors,
    leaves_of,
    links_under,
    live_planes,
    some_of,
    worst_by_world,
)


def rng(seed=0):
    return np.random.default_rng(seed)


@pytest.mark.parametrize("probability", [1e-3, 0.05, 0.3, 1.0, 0.0])
def test_as_many_happen_as_are_likely_and_all_are_different(probability):
    found = [some_of(rng(seed), 20_000, probability) for seed in range(30)]
    assert all((np.diff(one) > 0).all() for one in found)
    mean = np.mean([len(one) for one in found])
    spread = (20_000 * probability * (1 - probability) / 30) ** 0.5
    assert abs(mean - 20_000 * probability) <= 4 * spread
    if probability:
        assert np.concatenate(found).max() > 19_000


@pytest.mark.parametrize("probability", [0.05, 0.3])
def test_every_one_is_as_likely_as_any_other(probability):
    counts = np.zeros(20)
    for seed in range(4000):
        counts[some_of(rng(seed), 20, probability)] += 1
    mean = 4000 * probability
    assert ((counts - mean) ** 2 / (mean * (1 - probability))).sum() < 45.3  # chi squared, 99.9 %


def test_jitter_has_the_asked_mean_and_spread():
    factors = compute_factors(rng(), 1_000_000, 0.01)
    assert factors.mean() == pytest.approx(1, abs=4e-5)
    assert factors.std() == pytest.approx(0.01, rel=0.01)


@given(
    worlds=st.integers(1, 4),
    world_gpus=st.integers(1, 13),
    domain_gpus=st.integers(1, 4),
    planes=st.integers(1, 9),
    seed=st.integers(0, 999),
    share=st.sampled_from([0.0, 0.05, 0.4]),
)
def test_planes_that_partners_share_are_found(worlds, world_gpus, domain_gpus, planes, seed, share):
    gpus = worlds * world_gpus
    alive = np.ones((gpus, planes), dtype=bool)
    dead = some_of(rng(seed), gpus * planes, share)
    alive.reshape(-1)[dead] = False
    twice = np.r_[dead, dead[: len(dead) // 2]]  # by its own link and by its leaf's switch
    fewest, degraded = live_planes(twice, worlds, world_gpus, domain_gpus, planes)
    partner = [g // world_gpus * world_gpus + (g + domain_gpus) % world_gpus for g in range(gpus)]
    common = (alive & alive[partner]).sum(axis=1).reshape(worlds, world_gpus).min(axis=1)
    assert (fewest == common).all()
    assert degraded == (~alive.all(axis=1)).sum()


SOUND = Frailty(dead_switch_share=0.0, dead_uplink_share=0.0)


def test_uplinks_of_all_planes_count_together():
    drawn = leaves_of(rng(), 20_000, 8, 64, replace(SOUND, dead_uplink_share=0.01))
    assert drawn.uplinks.mean() == pytest.approx(8 * 64 * 0.99, abs=4 * (5.07 / 20_000) ** 0.5)
    assert drawn.uplinks.var() == pytest.approx(8 * 64 * 0.01 * 0.99, rel=0.05)
    assert (drawn.reachable == 8 * 64).all()
    assert len(drawn.dead) == 0
    assert leaves_of(rng(), 3, 2, 5, SOUND).uplinks.tolist() == [10, 10, 10]


def test_a_dead_leaf_switch_takes_its_plane_and_one_above_an_uplink_of_every_leaf():
    drawn = leaves_of(rng(4), 2_000, 4, 32, replace(SOUND, dead_switch_share=0.02))
    assert len(drawn.dead) == pytest.approx(160, abs=50)
    planes = 4 - np.bincount(drawn.dead // 4, minlength=2_000)
    whole = np.unique(drawn.reachable[planes == 4])
    assert len(whole) == 1  # what is dead above is dead for all
    assert 4 * 32 - 12 <= whole[0] < 4 * 32
    assert (drawn.reachable[planes < 4] < whole[0]).all()
    assert (drawn.uplinks == drawn.reachable).all()


@pytest.mark.parametrize("rails", [1, 4])
def test_the_links_under_a_dead_switch_are_those_of_its_gpus(rails):
    """Six GPUs a leaf, three planes; the island ends within the last group of leaves."""
    gpus = 6 * rails * 2 + 5
    found = links_under(np.array([1 * 3 + 2, 2 * rails * 3 + 0]), 3, 6, rails, gpus)
    pairs = {(int(link) // 3, int(link) % 3) for link in found}
    server = np.arange(gpus) // rails
    leaf = server // 6 * rails + np.arange(gpus) % rails
    expected = {(int(g), 2) for g in np.flatnonzero(leaf == 1)}
    expected |= {(int(g), 0) for g in np.flatnonzero(leaf == 2 * rails)}
    assert pairs == expected
    assert len(found) == len(pairs)


@given(
    block=st.integers(1, 9),
    worlds=st.integers(1, 9),
    gpus=st.integers(1, 9),
    seed=st.integers(0, 99),
)
def test_the_worst_block_a_world_lies_in_is_found(block, worlds, gpus, seed):
    values = rng(seed).integers(0, 100, -(-worlds * gpus // block)).astype(float)
    by_gpu = np.repeat(values, block)[: worlds * gpus].reshape(worlds, gpus)
    assert (worst_by_world(values, block, worlds, gpus) == by_gpu.min(axis=1)).all()


def test_rare_things_are_drawn_without_asking_everyone():
    """The draw at 1e-3 is not that of a uniform number each: it takes a thousandth of them."""

    class Counting:
        def __init__(self):
            self.drawn = 0

        def binomial(self, count, probability):
            return round(count * probability)

        def integers(self, low, high, count):
            self.drawn += count
            return np.random.default_rng(self.drawn).integers(low, high, count)

    source = Counting()
    found = components.some_of(source, 1_000_000, 1e-3)  # type: ignore[arg-type]
    assert len(found) == 1000
    assert source.drawn < 1100


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dead_plane_share": -0.1}, "dead_plane_share is a probability"),
        ({"straggler_share": 1.1}, "straggler_share is a probability"),
        ({"noise": 1.0}, "noise is 0 to 1"),
        ({"straggler_slowdown": 0.9}, "1 times as slow or more"),
        ({"noise": float("nan")}, "noise is 0 to 1"),
    ],
)
def test_what_is_no_frailty_is_refused(change, message):
    with pytest.raises(InputError, match=message):
        Frailty(**change)
