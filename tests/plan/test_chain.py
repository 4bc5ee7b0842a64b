"""The chain of recompute and offload: times and bytes unpriced, and what falls to which limit."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.plan.brute import every_cell, mission

from crore.plan import space
from crore.plan.axes import axes_of
from crore.plan.candidates import repeated, size, take
from crore.plan.chain import Chain
from crore.plan.chain_bytes import ChainBytes
from crore.plan.chain_times import ACTIVATIONS, NEAR, ChainTimes, Links
from crore.plan.fleet import run_bound_s
from crore.plan.pricing import peak_bytes, seconds, seconds_and_bytes
from crore.plan.request import PlanRequest
from crore.plan.resolve import resolve
from crore.plan.search import usable_bytes
from crore.plan.space import FULL_MODE, obeying

ROUNDING = 1e-12
MOST = 60
"""Candidates of a question that are looked at."""
LLAMA = PlanRequest(
    model="llama3-70b", gpu="h100-sxm", gpus=32, tokens=10**12, seq_len=4096, global_batch=128
)
MIXTRAL = replace(LLAMA, model="mixtral-8x7b", gpus=16)
SCHEDULES = ("zb-h1", "zb-h2", "zb-v", "dualpipe", "dualpipe-v", "gpipe", "1f1b", "interleaved")
REQUESTS = {
    "dense": LLAMA,
    "experts": MIXTRAL,
    "fully sharded": replace(LLAMA, fix={"zero": 3}),
    "on PCIe": replace(LLAMA, model="llama3-8b", gpu="rtx-3090", gpus=8),
    "xla": replace(LLAMA, stack="xla"),
    **{name: replace(LLAMA, fix={"schedule": name, "pp": 4}) for name in SCHEDULES},
}


def some(q):
    """Return axes and some settings with nothing recomputed, evenly out of all that there are."""
    axes, cells = axes_of(q), every_cell(q).candidates
    inside, _ = obeying(q, axes, space.settings(q, axes, cells))
    index = np.unique(np.linspace(0, size(inside) - 1, MOST).astype(np.intp))
    return axes, take(inside, index[: size(inside)])


def every_link(axes, times):
    """Yield every setting of the chains, each mode and offload apart."""
    count = size(times.candidates)
    for mode in axes.recompute:
        for offload in axes.offload:
            links = Links(which=np.arange(count), mode=mode, layers=-1.0, offload=offload)
            if mode == FULL_MODE and not axes.recompute_layers:
                stage = times.stage.astype(np.intp)
                links = repeated(links, stage)
                layers = np.concatenate([np.arange(1.0, n + 1) for n in stage])
                links = replace(links, layers=layers)
            yield links


@pytest.mark.parametrize("request_", REQUESTS.values(), ids=REQUESTS.keys())
def test_times_and_bytes_along_a_chain_are_those_of_pricing_each_setting(request_):
    q = resolve(request_)
    axes, candidates = some(q)
    times = ChainTimes(q, axes, candidates)
    held = ChainBytes(q, axes, times)
    for links in every_link(axes, times):
        whole_s, peak = seconds_and_bytes(q, times.settings(links))
        assert held.of(links) == pytest.approx(peak, rel=ROUNDING)
        assert times.seconds(links) == pytest.approx(whole_s, rel=ROUNDING)
        assert times.in_full(links) == pytest.approx(whole_s, rel=ROUNDING)


@pytest.mark.parametrize("request_", REQUESTS.values(), ids=REQUESTS.keys())
def test_no_count_of_layers_leaves_the_bounds_and_all_need_the_same_memory(request_):
    q = resolve(request_)
    axes, candidates = some(q)
    times = ChainTimes(q, axes, candidates)
    for offload in [it for it in axes.offload if it & ACTIVATIONS]:
        one = Links(which=np.arange(size(candidates)), mode=FULL_MODE, layers=1.0, offload=offload)
        least, (known, most) = times.least(one), times.known(one)
        stage = times.stage.astype(np.intp)
        layers = np.concatenate([np.arange(1.0, n + 1) for n in stage])
        every = replace(repeated(one, stage), layers=layers)
        whole_s, starts = times.in_full(every), np.cumsum(stage) - stage
        fastest, slowest = (f.reduceat(whole_s, starts) for f in (np.minimum, np.maximum))
        assert np.all(least <= fastest * (1 + ROUNDING))
        assert np.all(fastest <= known * (1 + ROUNDING))
        assert most == pytest.approx(slowest, rel=ROUNDING)
        assert np.any(least > 0.9 * fastest)  # it is a bound that cuts
        peak = peak_bytes(q, times.settings(every))
        assert np.array_equal(peak, np.repeat(peak[starts], stage))


def told_one_by_one(q, axes, candidates, limit, threshold_s):
    """Return how many settings of a pair are fast and fit, are too large, and are too slow."""
    times = ChainTimes(q, axes, candidates)
    (links,) = every_link(axes, times)
    whole = times.settings(links)
    step_s, peak = seconds_and_bytes(q, whole)
    fast, fits = run_bound_s(q, whole, step_s) <= threshold_s, peak <= limit
    runs = run_bound_s(q, whole, step_s)[fast & fits]
    return [np.count_nonzero(it) for it in (fast & fits, fast & ~fits, ~fast)], runs


@settings(max_examples=30)
@given(
    name=st.sampled_from(("dense", "experts", "fully sharded", "on PCIe")),
    share=st.sampled_from((0.1, 0.3, 0.5, 1.0)), quantile=st.sampled_from((0.1, 0.5, 0.9, None)),
    offload=st.sampled_from((2, 3)),
)  # fmt: skip
def test_counts_of_layers_are_told_as_if_each_were_priced(name, share, quantile, offload):
    q = resolve(REQUESTS[name])
    axes, candidates = some(q)
    bare_s = run_bound_s(q, candidates, seconds(q, candidates))
    threshold_s = math.inf if quantile is None else 1.2 * float(np.quantile(bare_s, quantile))
    limit, axes = share * usable_bytes(q), replace(axes, recompute=[FULL_MODE], offload=[offload])
    chain = Chain(q, axes, candidates, limit, threshold_s)
    tried, others = chain.tried(np.ones(size(candidates), dtype=bool), threshold_s)
    told, runs = told_one_by_one(q, axes, candidates, limit, threshold_s)
    assert [tried.near_s.size + tried.beaten, tried.tight, tried.slow] == told
    assert tried.short == others.asked == 0
    if runs.size:  # the fastest is never among those that are told by their family
        links = chain.times.settings(tried.links)
        assert run_bound_s(q, links, tried.near_s).min() == pytest.approx(runs.min(), rel=ROUNDING)


@settings(max_examples=15)
@given(data=st.data())
def test_what_is_kept_fits_and_is_fast_enough(data):
    q = resolve(mission(lambda values: data.draw(st.sampled_from(values))))
    if not size(every_cell(q).candidates):
        return
    axes, inside = some(q)
    if not size(inside):
        return
    limit = 0.5 * usable_bytes(q)
    chain = Chain(q, axes, inside, limit, math.inf)
    for tried in chain.tried(np.ones(size(inside), dtype=bool), math.inf):
        whole = chain.times.settings(tried.links)
        step_s, peak = seconds_and_bytes(q, whole)
        assert np.array_equal(peak, chain.bytes.in_full(tried.links, tried.peak))
        assert tried.peak == pytest.approx(peak, rel=NEAR)
        assert np.all(peak <= limit)
        assert tried.near_s == pytest.approx(step_s, rel=NEAR)


@settings(max_examples=30)
@given(
    name=st.sampled_from(tuple(REQUESTS)), share=st.sampled_from((0.1, 0.3, 0.5, 1.0)),
    later=st.sampled_from((0.6, 0.9, 1.0)), known=st.booleans(), part=st.sampled_from((1, 2, 7)),
)  # fmt: skip
def test_a_part_of_the_chains_is_told_as_if_it_were_alone(name, share, later, known, part):
    """Whatever else is priced with it, and however much was allowed when it was."""
    q = resolve(REQUESTS[name])
    axes, candidates = some(q)
    limit = share * usable_bytes(q)
    first_s = 1.5 * float(np.median(run_bound_s(q, candidates, seconds(q, candidates))))
    among, threshold_s = np.arange(size(candidates)) % part == 0, later * first_s
    alone = Chain(q, axes, take(candidates, among), limit, threshold_s)
    whole = Chain(q, axes, candidates, limit, first_s if known else math.inf)
    everyone = np.ones(np.count_nonzero(among), dtype=bool)
    told = zip(whole.tried(among, threshold_s), alone.tried(everyone, threshold_s), strict=True)
    for one, other in told:
        counts = [(it.short, it.slow, it.tight, it.beaten, it.asked) for it in (one, other)]
        assert counts[0] == counts[1]
        assert np.array_equal(np.flatnonzero(among)[other.links.which], one.links.which)
        assert np.array_equal(one.links.layers, other.links.layers)
        assert one.near_s == pytest.approx(other.near_s, rel=ROUNDING)
