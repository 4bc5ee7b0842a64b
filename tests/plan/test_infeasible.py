"""Nothing fits: by how much, and what would; whatever is named is tried here and works."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from crore.errors import MAX_MESSAGE_CHARS, Infeasible
from crore.plan import Limits, PlanRequest, make_plan
from crore.plan.infeasible import _any_fits, nearest_miss
from crore.plan.pricing import Points
from crore.plan.resolve import resolve
from crore.plan.search import Ground, search, usable_bytes
from crore.units import parse_count

HOME = PlanRequest(model="llama3-8b", gpu="rtx-3090", gpus=1, tokens=10**9)
SERVER = PlanRequest(model="llama3-8b", gpu="h100-sxm", gpus=8, tokens=10**11, global_batch=64)


def why(request):
    """Return the message of a request without a plan."""
    with pytest.raises(Infeasible) as caught:
        make_plan(request)
    message = str(caught.value)
    assert len(message) <= MAX_MESSAGE_CHARS
    assert "\n" not in message
    assert caught.value.exit_code == 1
    return message


def sizes(message):
    """Return (needed, usable, short) in GB."""
    found = re.search(r"at least ([\d.]+) GB .* of ([\d.]+) GB, ([\d.]+) GB short", message)
    assert found, message
    return tuple(map(float, found.groups()))


def count_named(message):
    found = re.search(r"; ([\d,]+) such GPUs (?:hold it|would do)", message)
    assert found, message
    return int(found[1].replace(",", ""))


CASES = {
    "one card": HOME,
    "large": PlanRequest(model="llama-3.1-405b", gpu="rtx-3090", gpus=8, tokens=10**9),
    "experts": PlanRequest(model="mixtral-8x7b", gpu="h100-sxm", gpus=1, tokens=10**9),
    "one stack": replace(HOME, stack="fsdp"),
}


@pytest.mark.parametrize("request_", CASES.values(), ids=CASES.keys())
def test_the_nearest_miss_is_short_by_what_it_says_and_the_gpus_named_hold_it(request_):
    message = why(request_)
    needed, usable, short = sizes(message)
    assert needed > usable
    assert short == pytest.approx(needed - usable, rel=0.02)
    assert usable == pytest.approx(usable_bytes(resolve(request_)) / 1e9, rel=0.005)
    more = count_named(message)
    batch = max(resolve(request_).global_batch, more)
    assert make_plan(replace(request_, gpus=more, global_batch=batch)).plan.gpus == more


def test_half_the_gpus_named_would_not_do():
    more = count_named(why(HOME))
    batch = max(resolve(HOME).global_batch, more)
    why(replace(HOME, gpus=more // 2, global_batch=batch))


@pytest.mark.parametrize("gpu", ["rtx-3090", "a100-sxm-80gb", "mi300x"])
@pytest.mark.parametrize("stack", ["megatron-2021", "megatron-2025", "fsdp", "torchtitan", "crore"])
@pytest.mark.parametrize("model", ["llama3-8b", "llama3-70b", "mixtral-8x7b"])
def test_something_fits_where_a_search_finds_a_plan(model, stack, gpu):
    for gpus in (1, 2, 4, 8, 16, 32):
        q = resolve(PlanRequest(model=model, gpu=gpu, gpus=gpus, stack=stack, tokens=10**10))
        assert _any_fits(q, Ground(q)) == bool(search(q).ranked)


def test_the_miss_is_the_least_that_any_setting_needs():
    q = resolve(HOME)
    miss = nearest_miss(q)
    assert miss is not None
    room = replace(HOME, gpu="b200-sxm")  # the same question where anything fits
    for fix in ({"recompute": "full"}, {"offload": "both"}, {"micro_batch": 1}, {}):
        plan = make_plan(replace(room, fix=fix)).plan
        assert plan.memory_bytes >= 0.99 * miss.peak_bytes


def test_the_miss_of_a_fleet_is_the_same_after_those_of_other_counts():
    points, world = Points(), Limits(world_gpus=16)
    for gpus in (64, 128, 128, 1_000):
        request_ = PlanRequest(
            model="llama3.1-405b", gpu="rtx-3090", gpus=gpus, stack="crore", tokens=10**10,
            limits=world,
        )  # fmt: skip
        miss, alone = (nearest_miss(resolve(request_), known) for known in (points, None))
        assert miss == alone
        assert miss is not None


def test_all_that_is_moved_to_the_host_is_named():
    assert "optimizer and activations on the host" in why(HOME)


def test_a_plan_that_only_the_margin_keeps_out_fits_without_it():
    q = resolve(SERVER)
    miss = nearest_miss(q)
    assert miss is not None
    tight = Limits(memory_bytes=int(miss.peak_bytes * 1.02))
    message = why(replace(SERVER, limits=tight))
    assert "fits without the margin" in message
    assert make_plan(replace(SERVER, limits=replace(tight, memory_margin=0.0))).plan


@pytest.mark.parametrize("objective", ["fastest", "cheapest"])
@pytest.mark.parametrize("limits", [Limits(gpus=1), Limits(power_w=2000.0)], ids=["gpus", "power"])
def test_a_limit_on_gpus_is_explained_on_the_gpus_it_leaves(limits, objective):
    request = PlanRequest(model="llama3-70b", gpu="h100-sxm", gpus=64, tokens=10**9,
                          objective=objective, limits=limits)  # fmt: skip
    message = why(request)
    assert "on 1 x h100-sxm" in message
    needed, usable, _ = sizes(message)
    assert needed > usable


def test_a_missed_deadline_names_gpus_and_tokens_that_keep_it():
    request = replace(SERVER, limits=Limits(days=1))
    message = why(request)
    assert "over the limit of 1;" in message
    more = count_named(message)
    assert make_plan(replace(request, gpus=more)).plan.days.value <= 1
    tokens = re.search(r"or ([\d.]+[A-Z]) tokens", message)
    assert tokens
    fewer = int(0.995 * parse_count(tokens[1]))  # three digits are printed
    assert make_plan(replace(request, tokens=fewer)).plan.days.value <= 1


def test_a_deadline_no_gpus_meet_names_the_tokens_alone():
    message = why(replace(SERVER, global_batch=8, limits=Limits(days=0.01)))
    assert "more of them would not do, but" in message


@pytest.mark.parametrize(("gpus", "batch"), [(37, 10), (10_007, 10), (24, 5)])
def test_a_batch_that_does_not_divide_names_one_that_does(gpus, batch):
    request = replace(SERVER, gpus=gpus, global_batch=batch, fix={"pp": 1, "cp": 1})
    message = why(request)
    found = re.search(r"--global-batch (\d+) does", message)
    assert found, message
    assert make_plan(replace(request, global_batch=int(found[1]))).plan.gpus == gpus
    fewer = re.search(r"--limit gpus=(\d+) to use fewer", message)
    assert fewer
    used = make_plan(replace(request, limits=Limits(gpus=int(fewer[1])))).plan.gpus
    assert used < gpus


def test_pins_that_no_layout_obeys_are_named_with_their_rule():
    message = why(replace(SERVER, fix={"pp": 3}))
    assert "--fix pp=3" in message
    assert "pp x dp x cp x tp is not the GPU count" in message


@pytest.mark.parametrize("stack", ["megatron-2021", "megatron-2025", "fsdp", "torchtitan", "crore"])
def test_one_gpu_is_enough_for_a_small_model_on_every_stack(stack):
    """FSDP shards gradients by name even where there is nobody to share them with."""
    request = PlanRequest(model="gpt2", gpu="rtx-3090", gpus=1, tokens=10**9, stack=stack)
    assert make_plan(request).plan.gpus == 1
