"""What a search hands back: counts, pins, an interruption, and the reason nothing is left."""

from __future__ import annotations

from dataclasses import replace

import pytest

from crore.errors import Infeasible, InputError, UnknownName
from crore.plan import PlanRequest, make_plan
from crore.plan.request import Limits
from crore.plan.resolve import resolve
from crore.plan.search import DOMINATED, TOO_SLOW, search, usable_bytes
from crore.plan.space import NO_MEMORY

LLAMA = PlanRequest(
    model="llama3-8b", gpu="h100-sxm", gpus=16, tokens=10**12, seq_len=8192, global_batch=128
)
MIXTRAL = replace(LLAMA, model="mixtral-8x7b", gpus=64)
FLEET = replace(LLAMA, gpus=64, stack="crore", limits=Limits(world_gpus=16))


def test_every_candidate_is_kept_or_counted_under_one_reason():
    found = search(resolve(replace(LLAMA, top=3)))
    assert sum(found.rejected.values()) + found.kept == found.candidates
    assert {TOO_SLOW, DOMINATED, NO_MEMORY} <= found.rejected.keys()
    assert min(found.rejected.values()) > 0
    assert 0 < found.kept <= found.evaluated < found.candidates / 10


def test_the_best_come_fastest_first_and_really_differ():
    ranked = search(resolve(replace(LLAMA, top=4))).ranked
    assert len(ranked) == 4
    assert [it.run_s for it in ranked] == sorted(it.run_s for it in ranked)
    assert ranked[0] == search(resolve(LLAMA)).ranked[0]


def test_nothing_slower_than_the_ceiling_is_returned():
    best = search(resolve(LLAMA)).ranked[0]
    assert search(resolve(LLAMA), ceiling_s=best.run_s).ranked == [best]
    found = search(resolve(LLAMA), ceiling_s=best.run_s * 0.999)
    assert not found.ranked
    assert sum(found.rejected.values()) == found.candidates


@pytest.mark.parametrize("margin", [0.0, 0.25])
def test_the_memory_margin_is_kept_free(margin):
    q = resolve(replace(LLAMA, limits=Limits(memory_margin=margin)))
    peak = search(q).ranked[0].peak_bytes
    assert peak * (1 + margin) <= q.accelerator.memory_bytes
    assert usable_bytes(q) == q.accelerator.memory_bytes / (1 + margin)


def test_blocks_do_not_change_the_answer(monkeypatch):
    whole = search(resolve(LLAMA))
    monkeypatch.setattr("crore.plan.pricing.BLOCK", 37)
    monkeypatch.setattr("crore.plan.search.FIRST_CELLS", 3)
    monkeypatch.setattr("crore.plan.search.CHAIN_BLOCK", 5)
    pieces = search(resolve(LLAMA))
    assert pieces.ranked[0].candidate == whole.ranked[0].candidate
    assert pieces.ranked[0].run_s == pytest.approx(whole.ranked[0].run_s, rel=1e-12)
    assert pieces.candidates == whole.candidates


@pytest.mark.parametrize("batches", [1, 2])
def test_ctrl_c_returns_the_best_so_far(batches):
    seen = []

    def watch(share, found):
        seen.append(share)
        if found.ranked and len(seen) >= batches:
            raise KeyboardInterrupt

    q = resolve(MIXTRAL)
    found = search(q, watch)
    assert found.interrupted
    assert found.ranked
    assert 0 < seen[-1] <= 1
    assert found.ranked[0].run_s >= search(q).ranked[0].run_s
    assert not search(q).interrupted


def test_ctrl_c_before_anything_was_found_goes_on_to_the_caller():
    def watch(_share, found):
        assert not found.ranked
        raise KeyboardInterrupt

    hopeless = replace(LLAMA, limits=Limits(memory_bytes=5_000_000_000))
    with pytest.raises(KeyboardInterrupt):
        search(resolve(hopeless), watch)


def test_the_share_done_rises_to_one_or_to_where_nothing_can_be_faster():
    shares = []
    search(resolve(MIXTRAL), lambda share, _: shares.append(share))
    assert shares == sorted(shares)
    assert shares[-1] <= 1


@pytest.mark.parametrize(
    ("request_", "key", "value", "shown"),
    [
        (LLAMA, "tp", 4, 4),
        (LLAMA, "pp", 2, 2),
        (LLAMA, "cp", 2, 2),
        (MIXTRAL, "ep", 4, 4),
        (replace(MIXTRAL, fix={"tp": 2}), "etp", 2, 2),
        (LLAMA, "dp_shard", 2, 2),
        (LLAMA, "dp_replicate", 4, 4),
        (LLAMA, "micro_batch", 2, 2),
        (LLAMA, "zero", 1, "zero1"),
        (replace(LLAMA, fix={"pp": 2}), "vpp", 4, 4),
        (replace(LLAMA, fix={"pp": 2}), "schedule", "zb-h1", "zb-h1"),
        (LLAMA, "recompute", "full", "full"),
        (LLAMA, "recompute_layers", 3, 3),
        (LLAMA, "offload", "none", None),
        (LLAMA, "precision", "fp8", "fp8"),
        (FLEET, "dp_replicate", 4, 4),
        (FLEET, "dp_shard", 2, 2),
    ],
)
def test_a_pin_is_obeyed(request_, key, value, shown):
    layout = make_plan(replace(request_, fix={**request_.fix, key: value})).plan.layout
    if key == "offload":
        assert layout["offload_optimizer"] == layout["offload_activations"] == 0
    else:
        assert layout[key] == shown


def test_offload_can_be_pinned_where_it_is_not_needed():
    layout = make_plan(replace(LLAMA, fix={"offload": "both"})).plan.layout
    assert layout["offload_optimizer"] == layout["offload_activations"] == 1


def test_batch_and_sequence_can_be_pinned():
    plan = make_plan(replace(LLAMA, global_batch=None, fix={"global_batch": 64})).plan
    assert plan.global_batch_tokens == 64 * 8192
    assert resolve(replace(LLAMA, seq_len=None, fix={"seq_len": 4096})).seq_len == 4096


@pytest.mark.parametrize(
    ("fix", "wanted"),
    [
        ({"islands": 1}, {"islands": 1}),
        ({"islands": 4}, {"islands": 4}),
        ({"islands": 1, "worlds": 2}, {"islands": 1, "worlds": 2}),
        ({"islands": 2, "worlds": 2}, {"islands": 2, "worlds": 4}),
    ],
)
def test_pinned_islands_and_worlds_are_obeyed(fix, wanted):
    plan = make_plan(replace(FLEET, fix=fix)).plan
    assert {key: getattr(plan, key) for key in wanted} == wanted
    assert plan.gpus / plan.worlds <= 16


def test_pinned_outer_steps_are_obeyed():
    plan = make_plan(replace(FLEET, fix={"islands": 2, "interval": 7, "outer_bits": 8})).plan
    assert (float(plan.rounds.interval), float(plan.rounds.bits)) == (7, 8)


def test_muon_keeps_a_third_of_the_optimizer_states_less():
    fix: dict[str, int | str] = {
        "tp": 2, "pp": 1, "cp": 1, "zero": 1, "micro_batch": 1, "recompute": "full",
    }  # fmt: skip
    adam, muon = (
        make_plan(replace(LLAMA, fix={**fix, "optimizer": name})).plan.memory_split_bytes
        for name in ("adamw", "muon")
    )
    assert muon["optimizer"] / adam["optimizer"] == pytest.approx(2 / 3, rel=1e-6)


def test_optimizer_states_go_to_the_host_when_nothing_else_fits():
    plan = make_plan(PlanRequest(model="llama3.2-1b", gpu="rtx-3090", gpus=1)).plan
    assert plan.layout["offload_optimizer"] == 1


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"fix": {"tp": 3}}, "tp does not divide the attention heads"),
        ({"fix": {"ep": 2}}, "ep or etp without experts"),
        ({"fix": {"cp": 3}}, "cp does not cut the sequence"),
        ({"fix": {"dp_replicate": 3}}, "no layout of llama3-8b"),
        ({"fix": {"islands": 2}}, "several worlds are pinned, and the GPUs are one"),
        ({"fix": {"micro_batch": 256}}, "--global-batch 256 does"),
        ({"gpus": 13, "fix": {"tp": 13}}, "attention heads"),
        ({"model": "llama3.1-405b"}, r"does not fit.*short"),
    ],
)
def test_what_leaves_nothing_is_named_in_one_line(changes, words):
    with pytest.raises(Infeasible, match=words) as error:
        make_plan(replace(LLAMA, **changes))
    assert len(str(error.value)) <= 240


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"fix": {"worlds": 200}}, "no number of worlds is as pinned and fed by the global batch"),
        ({"fix": {"tp": 32}}, "tp x pp x cp is more than a world holds"),
        ({"fix": {"dp_shard": 64}}, "no number of worlds"),
        ({"model": "llama3.1-405b", "gpu": "rtx-3090"}, "does not fit.*short"),
    ],
)
def test_what_leaves_nothing_of_a_fleet_is_named(changes, words):
    with pytest.raises(Infeasible, match=words):
        make_plan(replace(FLEET, **changes))


@pytest.mark.parametrize(
    ("fix", "words"),
    [
        ({"recompute": "sometimes"}, "selective"),
        ({"schedule": "2f2b"}, "1f1b"),
        ({"optimizer": "adam"}, "adamw"),
        ({"offload": "weights"}, "optimizer"),
    ],
)
def test_an_unknown_word_in_a_pin_names_the_nearest(fix, words):
    with pytest.raises(UnknownName, match=words):
        search(resolve(replace(LLAMA, fix=fix)))


def test_a_precision_the_part_lacks_is_refused():
    with pytest.raises(InputError, match="has no fp8 peak"):
        resolve(replace(LLAMA, gpu="v100-sxm-32gb", precision="fp8"))


def test_an_answer_does_not_depend_on_the_order_of_pins():
    first = search(resolve(replace(LLAMA, fix={"tp": 4, "pp": 2})))
    second = search(resolve(replace(LLAMA, fix={"pp": 2, "tp": 4})))
    assert first.ranked == second.ranked
