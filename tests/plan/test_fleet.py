"""Worlds and islands: how many are tried, how they meet, and the time the run takes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crore.cost.layout import Layout
from crore.plan.candidates import Candidates
from crore.plan.fleet import (
    ISLAND_COUNTS,
    LARGEST_ISLAND,
    goodput,
    goodput_bound,
    island_counts,
    learning_efficiency,
    recovery_of,
    rounds_of,
    run_bound_s,
    run_s,
    wan_bytes_per_s,
)
from crore.plan.request import PlanRequest
from crore.plan.resolve import resolve

MILLION = PlanRequest(
    model="llama3.1-405b", gpu="h100-sxm", gpus=1_000_000, tokens=10**13, seq_len=8192,
    global_batch=8192, stack="crore",
)  # fmt: skip
ONE = PlanRequest(
    model="llama3-8b", gpu="h100-sxm", gpus=64, tokens=10**12, seq_len=8192, global_batch=512
)


def island(islands=1.0, worlds=8.0, replicas=128.0, batch=1024.0):
    """Return islands of `worlds` worlds of 64 ranks times `replicas`/worlds."""
    layout = Layout(tp=8.0, pp=8.0, dp_shard=replicas / worlds, dp_replicate=worlds)
    return Candidates(layout=layout, islands=islands, worlds=worlds, batch=batch)


def test_one_world_is_one_island():
    assert island_counts(resolve(ONE)) == (1,)


def test_islands_are_as_pinned_or_whole_numbers_a_site_or_the_usual():
    assert island_counts(resolve(replace(MILLION, fix={"islands": 7}))) == (7,)
    assert island_counts(resolve(replace(MILLION, sites=3))) == (3, 6, 12)
    usual = island_counts(resolve(MILLION))
    assert usual == tuple(m for m in ISLAND_COUNTS if 1_000_000 // m <= LARGEST_ISLAND)
    assert min(usual) == 2


def test_a_fabric_that_does_not_reach_makes_more_islands():
    near = island_counts(resolve(replace(MILLION, fabric="fat-tree-400g")))
    assert min(near) == 16  # 65,536 end points


def met(q, chosen, *steps):
    """Return (interval, bits, outer seconds, exposed seconds) at each step time."""
    rounds = rounds_of(q, chosen, np.array(steps))
    return [np.asarray(x) for x in (rounds.interval, rounds.bits, rounds.outer_s, rounds.exposed_s)]


def test_the_shortest_interval_and_widest_gradient_that_hide_are_taken():
    q = resolve(MILLION)
    interval, bits, outer_s, exposed_s = met(q, island(islands=2.0), 1e-9, 1e-3, 1.0, 1e4)
    assert (interval[-1], bits[-1], exposed_s[-1]) == (50, 16, 0)
    assert np.all(np.diff(interval) <= 0)
    assert (interval[0], bits[0]) == (500, 4)
    assert exposed_s[0] == pytest.approx(outer_s[0] - 500 * 1e-9)


def test_an_outer_gradient_takes_its_bytes_over_the_islands_share_of_the_network():
    q = resolve(replace(MILLION, fix={"interval": 100, "outer_bits": 8}))
    interval, bits, outer_s, _ = met(q, island(islands=4.0), 1.0)
    sent = 2 * 3 / 4 * 405.85e9 * 8.125 / 8  # a ring of four, one byte and a share of a scale
    rate = q.wan.port_bytes_per_s * 8192
    assert wan_bytes_per_s(q, island()) == rate
    assert outer_s[0] == pytest.approx(sent / rate + q.wan.hop_latency_s, rel=1e-3)
    assert (interval[0], bits[0]) == (100, 8)


def test_one_island_sends_nothing():
    assert [float(x[0]) for x in met(resolve(MILLION), island(), 1.0)] == [1, 0, 0, 0]


def test_a_run_takes_its_steps_over_what_is_useful():
    q = resolve(ONE)
    one = Candidates(layout=Layout(dp_shard=64.0), islands=1.0, worlds=1.0, batch=512.0)
    steps = 10**12 / (512 * 8192)
    useful = float(goodput(q, one, 1.0))
    assert float(run_s(q, one, np.asarray(2.0))) == pytest.approx(2 * steps / useful)
    assert 0.99 < useful < 1
    assert recovery_of(q) == "disk"


def test_a_fleet_goes_on_without_a_world():
    q = resolve(MILLION)
    assert recovery_of(q) == "quorum"
    small, large = island(worlds=128.0), island(worlds=8.0)
    assert goodput(q, small, 1.0) > goodput(q, large, 1.0)


@given(
    islands=st.sampled_from((1.0, 2.0, 5.0, 20.0, 100.0)),
    worlds=st.sampled_from((1.0, 8.0, 128.0)),
    step_s=st.floats(1e-3, 1e4),
    longer=st.floats(1.0, 100.0),
)
def test_a_longer_step_never_shortens_the_run(islands, worlds, step_s, longer):
    """What lets a search take the fastest step of a layout; and nothing undercuts the bound."""
    q = resolve(MILLION)
    chosen = island(islands, worlds)
    short, long = run_s(q, chosen, np.array([step_s, step_s * longer]))
    assert long >= short * (1 - 1e-12)
    bound = run_bound_s(q, chosen, np.array([step_s]))[0]
    assert bound <= short * (1 + 1e-12)


@given(
    islands=st.sampled_from((1.0, 2.0, 5.0, 20.0, 100.0)),
    worlds=st.sampled_from((1.0, 8.0, 128.0)),
    round_s=st.floats(1e-2, 1e6),
)
def test_goodput_is_a_share_below_its_bound(islands, worlds, round_s):
    q = resolve(MILLION)
    share = float(goodput(q, island(islands, worlds), round_s))
    assert 0 < share <= float(goodput_bound(q, island(islands, worlds))) * (1 + 1e-12) <= 1


def test_one_island_learns_as_one_run():
    low, middle, high = learning_efficiency(resolve(MILLION), 1.0)
    assert (low, middle, high) == (1, 1, 1)
