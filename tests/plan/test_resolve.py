"""Names are looked up, open numbers derived and said, contradictions refused."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crore.catalog import load_catalog
from crore.errors import MAX_MESSAGE_CHARS, InputError, UnknownName
from crore.plan import Limits, PlanRequest
from crore.plan.resolve import near_batch, resolve

CATALOG = load_catalog()
SMALL = PlanRequest(model="llama3-8b", gpu="h100-sxm", gpus=8)


def asked(**fields):
    return resolve(replace(SMALL, **fields), CATALOG)


def test_what_is_left_open_is_derived_and_said():
    q = asked()
    assert q.tokens == pytest.approx(20 * 8.03e9, rel=0.01)  # arXiv 2203.15556
    assert (q.seq_len, q.precision, q.stack_name) == (8192, "bf16", "megatron-2025")
    # StepLaw's 0.58·D^0.571 tokens (arXiv 2503.04715), a power of two of sequences.
    assert q.global_batch == 128
    assert q.global_batch * q.seq_len == pytest.approx(0.58 * q.tokens**0.571, rel=0.5)
    assert len(q.derived) == 4


def test_what_is_given_is_taken_and_not_said():
    q = asked(tokens=10**9, seq_len=2048, global_batch=48, precision="fp8", stack="fsdp")
    assert (q.tokens, q.seq_len, q.global_batch, q.precision) == (10**9, 2048, 48, "fp8")
    assert q.derived == ()


def test_a_model_with_few_positions_gets_shorter_sequences():
    q = asked(model="gpt2-xl")
    assert q.seq_len == 1024
    with pytest.raises(InputError, match="1,024 learned positions"):
        asked(model="gpt2-xl", seq_len=2048)


def test_a_batch_may_be_given_in_tokens():
    assert asked(global_batch_tokens=8192 * 64).global_batch == 64
    with pytest.raises(InputError, match="no multiple of the sequence length"):
        asked(global_batch_tokens=8192 * 64 + 1)


def test_a_part_without_bf16_trains_in_fp16():
    assert asked(gpu="v100-sxm-32gb").precision == "fp16"


@given(st.floats(1, 1e6), st.integers(1, 10**7))
def test_a_derived_batch_is_near_and_divides_by_the_odd_part_of_the_gpus(wanted, gpus):
    batch = near_batch(wanted, gpus)
    assert 1 / math.sqrt(2) * (1 - 1e-9) <= batch / wanted <= math.sqrt(2) * (1 + 1e-9)
    odd = gpus // (gpus & -gpus)
    if odd <= wanted:
        assert batch % odd == 0
        assert batch // odd & (batch // odd - 1) == 0


def test_a_limit_on_the_batch_holds_for_a_derived_one():
    for tokens in (10**5, 10**6, 3 * 10**6):
        q = asked(gpus=24, limits=Limits(global_batch_tokens=tokens))
        assert tokens / 2 <= q.global_batch * q.seq_len <= tokens


def test_a_cluster_brings_gpu_count_and_network():
    q = resolve(PlanRequest(model="llama3-8b", cluster="deepseek-2k"), CATALOG)
    assert (q.gpus, q.accelerator.name) == (2048, "h800-sxm")
    assert q.fabric is not None
    assert q.fabric.name == "rail-400g"


def test_a_limit_on_gpus_says_how_many_there_are():
    assert resolve(replace(SMALL, gpus=0, limits=Limits(gpus=16)), CATALOG).gpus == 16


def test_more_than_one_world_takes_the_stack_that_joins_them():
    q = asked(gpus=200_000)
    assert (q.stack_name, q.is_fleet) == ("crore", True)
    assert any("more than one world" in line for line in q.derived)


def test_the_same_words_give_the_same_question():
    assert asked() == asked()


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"gpus": 0}, "needs a GPU and how many"),
        ({"gpus": -1}, "at least 1, not -1"),
        ({"cluster": "colossus", "gpu": "b200-sxm"}, "has h100-sxm, not b200-sxm"),
        ({"gpus": 100_000, "fabric": "fat-tree-400g"}, "reaches 65,536"),
        ({"tokens": 0}, "tokens must be above 0"),
        ({"top": 0}, "top must be above 0"),
        ({"limits": Limits(days=0)}, "days must be above 0"),
        ({"limits": Limits(power_w=-1.0)}, "power_w must be above 0"),
        ({"limits": Limits(memory_margin=1.0)}, "share from 0 to 1"),
        ({"limits": Limits(world_gpus=10**6)}, "at most 100,000"),
        ({"limits": Limits(world_gpus=4)}, "--stack crore joins several worlds"),
        ({"limits": Limits(global_batch_tokens=100)}, "one sequence is 8,192 tokens"),
        ({"global_batch": 64, "limits": Limits(global_batch_tokens=10**5)}, "over the limit"),
        ({"precision": "bf16", "fix": {"precision": "fp8"}}, "contradict"),
        ({"global_batch": 8, "fix": {"global_batch": 4}}, "contradict"),
        ({"gpu": "v100-sxm-32gb", "precision": "fp8"}, "has no fp8 peak"),
    ],
)
def test_numbers_that_contradict_are_refused_in_one_line(fields, words):
    with pytest.raises(InputError, match=words) as caught:
        asked(**fields)
    assert len(str(caught.value)) <= MAX_MESSAGE_CHARS


@pytest.mark.parametrize(
    ("fields", "near"),
    [
        ({"objective": "fast"}, "fastest"),
        ({"basis": "rent"}, "did you mean rented"),
        ({"lost_worlds": "keep"}, "did you mean keep-batch"),
        ({"stack": "megatron"}, "megatron-2025"),
        ({"precision": "bf17"}, "bf16"),
        ({"wan": "wan-1000"}, "wan-1000km"),
        ({"fabric": "rail-400"}, "rail-400g"),
    ],
)
def test_an_unknown_name_is_met_with_the_nearest(fields, near):
    with pytest.raises(UnknownName, match=near):
        asked(**fields)
