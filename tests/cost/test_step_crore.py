"""What crore's trainer sends for activations; the rehearsal holds all of it against its code."""

from __future__ import annotations

from dataclasses import replace

import pytest

from crore.cost import operations
from crore.cost.job import Place

H, S = 4096, 4096


def sent(job, axis):
    """Return bytes of one message and how often it is sent in a micro-batch, by name and phase."""
    scale = job.machine.element_scale
    return {
        (op.name, op.phase): (float(op.message_bytes * scale), float(op.count))
        for op in operations(job)
        if op.kind == "collective" and op.axis == axis and float(op.count) > 0
    }


@pytest.fixture
def crore_job(make_job):
    return lambda model="llama3-8b", **layout: make_job(model, stack="crore", **layout)


def test_sequence_parallel_layers_gather_and_scatter_once_a_region(crore_job):
    tp = sent(crore_job(tp=8, sequence_parallel=1, zero=1), "tp")
    for name in ("tp attention gather", "tp feed-forward scatter"):
        assert tp[name, "forward"] == tp[name, "backward"] == (2 * S * H, 32)
    assert tp["tp head gather", "forward"] == (2 * S * H, 1)
    assert tp["largest logits", "forward"] == (4 * S, 1)
    assert tp["sums of the loss", "forward"] == (8 * S, 1)
    assert not [name for name, _ in tp if "all-reduce" in name]


def test_full_recompute_sends_all_again_but_what_ends_a_layer(crore_job):
    tp = sent(crore_job(tp=8, sequence_parallel=1, recompute=3), "tp")
    again = {name for name, phase in tp if phase == "recompute"}
    assert again == {"tp attention gather", "tp attention scatter", "tp feed-forward gather"}
    light = sent(crore_job(tp=8, sequence_parallel=1, recompute=1), "tp")
    assert not [name for name, phase in light if phase == "recompute"]


def test_ulysses_exchanges_queries_keys_values_and_what_was_attended(crore_job):
    cp = sent(crore_job(cp=4), "cp")
    assert cp["cp queries", "forward"] == cp["cp attended", "backward"] == (2 * S // 4 * H, 32)
    assert cp["cp keys", "forward"] == cp["cp values", "forward"] == (2 * S // 4 * 1024, 32)
    # Eight key-value heads are too few for sixteen ranks: every query head takes its own.
    assert sent(crore_job(cp=16), "cp")["cp keys", "forward"] == (2 * S // 16 * H, 32)


def test_experts_are_told_how_many_rows_come_in_64_bits(crore_job):
    ep = sent(crore_job("mixtral-8x7b", dp_shard=8, ep=8, precision="fp32"), "ep")
    assert ep["expert row counts", "forward"] == (8 * 8, 32)
    assert ("expert row counts", "backward") not in ep
    assert ep["expert dispatch", "backward"] == (4 * S * 2 * H, 32)


def test_a_rank_of_a_pipeline_sends_what_its_place_does(crore_job):
    job = crore_job(pp=4)
    ends = [
        replace(job, place=Place(layers=8.0, first=a, last=z, sends=1.0 - z, receives=1.0 - a))
        for a, z in ((1.0, 0.0), (0.0, 0.0), (0.0, 1.0))
    ]
    names = [{name for name, _ in sent(one, "pp")} for one in ends]
    assert names == [{"pp send"}, {"pp send", "pp receive"}, {"pp receive"}]
    assert {name for name, _ in sent(ends[1], "tied")} == set()
