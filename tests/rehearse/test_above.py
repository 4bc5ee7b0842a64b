"""What a rank does with other worlds and islands: counted, planned, real, with seeded faults."""

from __future__ import annotations

import threading
from contextlib import nullcontext
from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest
import torch
import torch.distributed as dist
from tests.rehearse.plans import PLANS, traced
from torch.distributed import HashStore, PrefixStore  # type: ignore[attr-defined]  # not listed

from crore.cost import operations
from crore.rehearse import around as around_module
from crore.rehearse import joining
from crore.rehearse.above import (
    compare_above,
    elements_of,
    islands_disagree,
    outer_sent_bytes,
    worlds_disagree,
)
from crore.rehearse.around import ISLANDS, WORLDS, Around, SilentMeeting, crew_of
from crore.rehearse.compare import compare
from crore.rehearse.fake import rehearse, seen_from
from crore.rehearse.joining import take_round
from crore.rehearse.ledger import Ledger
from crore.rehearse.predicted import job_of
from crore.rehearse.rehearsal import does_not_fit, needed_bytes
from crore.train.fault import crew
from crore.train.islands import outer as outer_module
from crore.train.islands.outer import OuterState
from crore.train.islands.settings import Outer

FLEET = Around(world=1, worlds=3, island=1, islands=4, outer=Outer(interval=10, bits=16))
EVERY_DAY = ("one rank", "ep pp", "zero3 padded")
MORE = ("zero1", "tp sequence", "pp", "composed bf16", "hsdp")
NAMES = [*EVERY_DAY, *(pytest.param(name, marks=pytest.mark.drill) for name in MORE)]


def work_of(name, around=FLEET):
    return replace(next(case for case in PLANS if case.name == name).work(), around=around)


def round_of(trace):
    assert trace.round is not None
    return trace.round


def bytes_on(messages, axis):
    return [m.bytes for m in messages if m.axis == axis]


@pytest.mark.parametrize("name", NAMES)
def test_a_fleet_sends_what_the_plan_says(name):
    work = work_of(name)
    for rank in {0, work.split.ranks - 1}:
        trace = rehearse(work, rank)
        rows = [*compare(work, trace), *compare_above(work, trace)]
        above = [WORLDS, "worlds sums", "world", "islands sent", "islands facts"]
        assert {row.what for row in rows if row.same} >= {*above}, rank


@pytest.mark.parametrize("name", ["zero1", "composed bf16", "ep pp"])
def test_worlds_add_up_what_the_planner_has_replicas_add_up(name):
    """Its list knows worlds as replicas: the bytes of its all-reduces over them, once a step."""
    work = work_of(name)
    copies = work.split.dp_replicate * FLEET.worlds
    once = replace(work.split, zero=1)
    alone = replace(work, split=once)
    job = job_of(alone, 0)
    of_all = replace(job, layout=replace(job.layout, dp_replicate=float(copies)),
                     global_batch=job.global_batch * FLEET.worlds)  # fmt: skip
    told = sum(
        float(np.asarray(op.count * op.message_bytes * job.machine.element_scale))
        for op in operations(of_all)
        if op.name.endswith("replica sum")
    )
    loads = 4 * work.spec.experts * float(np.asarray(job.stage_moe)) if work.spec.experts else 0
    counted = bytes_on(rehearse(work, 0).messages, WORLDS)
    assert sum(counted[:-1]) == told + loads == 4 * elements_of(work, 0)[0] + loads


def test_what_a_world_does_alone_it_does_among_others():
    alone, among = traced("composed", 5), rehearse(work_of("composed"), 5)
    ours = [m for m in among.messages if m.axis not in (WORLDS, "world")]
    assert ours == [m for m in alone.messages if m.axis != "world"]
    assert bytes_on(among.messages, "world") == [5 * 8]
    assert bytes_on(alone.messages, "world") == [3 * 8]
    assert among.flops == alone.flops
    assert alone.round is None


def test_gradients_go_in_buckets(monkeypatch):
    whole = bytes_on(rehearse(work_of("pp"), 0).messages, WORLDS)
    monkeypatch.setattr(crew, "BUCKET_BYTES", 200_000)
    cut = bytes_on(rehearse(work_of("pp"), 0).messages, WORLDS)
    assert sum(cut) == sum(whole)
    assert len(cut) > len(whole) == 2
    assert max(cut) <= 262_144  # one table, which no bucket holds


@pytest.mark.parametrize("worlds", [2, 24, 4400])
def test_the_message_of_sums_grows_with_the_worlds_of_an_island(worlds):
    around = replace(FLEET, worlds=worlds, world=worlds - 1)
    assert (
        bytes_on(rehearse(work_of("one rank", around), 0).messages, WORLDS)[-1] == 8 + 24 * worlds
    )


def test_nothing_else_grows_with_the_worlds_of_an_island():
    few, many = (
        rehearse(work_of("one rank", replace(FLEET, worlds=worlds)), 0) for worlds in (3, 4400)
    )
    assert few.operations == many.operations
    assert few.peak_bytes == many.peak_bytes
    assert [m.bytes for m in round_of(few).messages] == [m.bytes for m in round_of(many).messages]


@pytest.mark.parametrize(
    ("bits", "islands", "fragments"), [(32, 2, 1), (16, 80, 1), (8, 5, 2), (4, 5, 2), (4, 80, 1)]
)
def test_islands_send_what_the_cost_model_says_but_for_whole_blocks(bits, islands, fragments):
    outer = Outer(interval=10, bits=bits, fragments=fragments)
    work = work_of("zero1", Around(island=1, islands=islands, outer=outer))
    trace = rehearse(work, 0)
    sent, facts = compare_above(work, trace)
    assert sent.same
    assert facts.same
    assert sent.counted >= sent.predicted
    assert sent.counted + facts.counted == outer_sent_bytes(work, trace)
    assert len(bytes_on(round_of(trace).messages, ISLANDS)) == 3 * fragments


def test_whole_blocks_are_sent_to_the_byte():
    """Each parameter's part is whole blocks, and two islands share them evenly."""
    work = work_of("zero1", Around(islands=2, outer=Outer(interval=10, bits=4)))
    work = replace(work, spec=replace(work.spec, hidden=1024, heads=64, kv_heads=64, ffn=1024))
    (sent, _) = compare_above(work, rehearse(work, 0))
    assert sent.counted == sent.predicted


def test_the_outer_state_is_the_hosts_and_costs_the_card_nothing():
    work, alone = work_of("pp"), traced("pp", 0)
    trace = rehearse(work, 0)
    state = round_of(trace).state_bytes
    assert 8 * trace.parameters <= state <= 8 * (trace.parameters + 127 * len(trace.shards))
    assert trace.peak_bytes == alone.peak_bytes
    # A copy of the fragment's state, to go back to, and at least the vector of the delta.
    assert round_of(trace).peak_bytes >= state + (8 + 4) * trace.parameters


def test_a_card_without_room_for_a_step_is_named():
    work = work_of("pp")
    trace = rehearse(work, 0)
    plan = {"memory_split_bytes": {}, "memory_capacity_bytes": 0.0}
    needed = needed_bytes(plan, work, trace)
    for room, found in ((needed, 0), (needed - 1, 1)):
        told = does_not_fit(plan | {"memory_capacity_bytes": room}, work, trace, needed)
        assert len(told) == found


def test_a_world_that_skips_a_bucket_is_named(monkeypatch):
    monkeypatch.setattr(crew, "BUCKET_BYTES", 200_000)
    buckets = crew._buckets
    traces = {}
    for world in range(5):
        forgets = world == 3
        monkeypatch.setattr(
            crew, "_buckets", lambda them, f=forgets: buckets(them)[:2] + buckets(them)[2 + f :]
        )
        traces[world] = rehearse(work_of("pp", replace(FLEET, world=world, worlds=5)), 1)
    (finding,) = worlds_disagree(traces)
    assert finding.kind == "mismatch"
    assert finding.text.startswith("world 3 sends")
    assert "theirs all_reduce of 180,224 B" in finding.text
    del traces[3]
    assert worlds_disagree(traces) == []


def test_an_island_with_another_order_of_fragments_is_named(monkeypatch):
    deal = outer_module.fragments_of
    traces = {}
    for island in range(4):
        reverse = island == 2
        monkeypatch.setattr(
            outer_module, "fragments_of", lambda *them, r=reverse: deal(*them)[:: -1 if r else 1]
        )
        around = replace(FLEET, island=island, outer=Outer(interval=10, fragments=2, bits=16))
        traces[island] = rehearse(work_of("pp", around), 0)
    (finding,) = islands_disagree(traces)
    assert finding.kind == "mismatch"
    assert finding.text.startswith("island 2 sends another fragment: in turn 1 its rank 0 sends ")
    del traces[2]
    assert islands_disagree(traces) == []


def test_an_island_that_sends_other_bits_is_named():
    traces = {
        island: rehearse(
            work_of("one rank", replace(FLEET, island=island, outer=Outer(bits=bits))), 0
        )
        for island, bits in enumerate((8, 8, 4))
    }
    (finding,) = islands_disagree(traces)
    assert finding.text.startswith("island 2 sends")
    assert "its message 1 is all_to_all of" in finding.text


def test_what_a_meeting_would_take_for_a_death_is_raised():
    with seen_from(0, 1):
        meeting = SilentMeeting(around_module.worlds_group(FLEET))
        with pytest.raises(RuntimeError, match="torn"):
            meeting.fail(RuntimeError("torn"))


def gloo_group(store, rank, size, name):
    """Return a group over gloo, of threads of this process."""
    group = dist.ProcessGroup(store, rank, size)
    kind = dist.ProcessGroup.BackendType.GLOO
    prefixed = PrefixStore(name, store)
    backend = dist.ProcessGroupGloo(prefixed, rank, size, timeout=timedelta(seconds=120))
    group._register_backend(torch.device("cpu"), kind, backend)
    group._set_default_backend(kind)
    group._set_group_name(name)
    return group


def in_threads(count, function):
    """Return what `function(k)` returns for each k, all at once."""
    found, errors = [None] * count, []

    def work(k):
        try:
            found[k] = function(k)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors, errors
    return found


def test_a_rehearsed_round_is_a_real_one(monkeypatch):
    """Over gloo it leaves all islands with the mean of their weights, and sends the same list."""
    islands, store = 3, HashStore()
    plain = Outer(interval=10, bits=32, lr=1.0, momentum=0.0, nesterov=False, fragments=2)
    shapes = {"layers.0.w": (7, 40), "layers.1.w": (300,), "head": (16, 16)}
    ends = {name: torch.randn(islands, *shape) for name, shape in shapes.items()}

    def once(island, make, ending):
        named = {name: make(shape) for name, shape in shapes.items()}
        around = Around(island=island, islands=islands, outer=plain)
        state = OuterState(named, plain)
        for name, weight in named.items():
            weight.copy_(ending(name))
        ledger = Ledger({"outer": (ISLANDS,)})
        inside = (lambda: fake) if make is torch.empty else nullcontext
        return named, take_round(around, state, named, ledger, inside)

    with seen_from(0, 1) as fake:
        with fake:
            _, silent = once(0, torch.empty, lambda name: torch.empty(shapes[name]))
        monkeypatch.setattr(
            joining, "islands_group",
            lambda around: gloo_group(store, around.island, around.islands, "outer"),
        )  # fmt: skip
        found = in_threads(
            islands, lambda k: once(k, torch.zeros, lambda name: ends[name][k])
        )  # fmt: skip
    for named, joined in found:
        for name, weight in named.items():
            torch.testing.assert_close(weight, ends[name].mean(0))
        assert joined.messages == silent.messages
        assert joined.peak_bytes >= silent.peak_bytes
    # A thread of gloo may hold what it received a moment longer; not on all islands.
    assert min(joined.peak_bytes for _, joined in found) == silent.peak_bytes


def test_a_rehearsed_crew_is_a_real_one(monkeypatch):
    """Over gloo it adds up what its worlds have, in the same messages."""
    worlds, store = 3, HashStore()
    monkeypatch.setattr(crew, "BUCKET_BYTES", 64)

    def once(world, own, checksum=0):
        tensors = [torch.full((n,), float(world + 1)) for n in (10, 3, 20, 1)]
        ledger = Ledger({"quorum of island 0": (WORLDS,)})
        with ledger.counting():
            own.add(tensors)
            sums = own.sums({"nats": float(world)}, checksum=checksum, busy_s=0.0)
        return tensors, sums, own.members, ledger.messages

    with seen_from(0, 1):
        *_, silent = once(0, crew_of(Around(worlds=worlds)))
        monkeypatch.setattr(
            around_module, "worlds_group",
            lambda around: gloo_group(store, around.world, around.worlds, "quorum of island 0"),
        )  # fmt: skip
        found = in_threads(worlds, lambda k: once(k, crew_of(Around(world=k, worlds=worlds)), 7))
    for tensors, sums, there, messages in found:
        assert all(torch.equal(it, torch.full_like(it, 6.0)) for it in tensors)
        assert sums == {"nats": 3.0}
        assert there == (0, 1, 2)
        assert messages == silent
