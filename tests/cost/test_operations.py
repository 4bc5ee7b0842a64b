"""Twins of an operation do its work again or the other way, and free what it saved."""

from __future__ import annotations

import pytest

from crore.cost import operations
from crore.cost.operations import Gemm, Operation, backward_of, matmul, recompute_of

PRODUCT = matmul("p", Gemm(m=8.0, n=16.0, k=32.0, groups=3.0), saved_bytes=512.0)


def test_a_product_is_two_flops_per_multiply_add():
    assert PRODUCT.flops == 2 * 8 * 16 * 32 * 3


def test_the_backward_of_a_product_is_two_products_and_frees_its_input():
    back = backward_of(PRODUCT)
    assert (back.flops, back.passes, back.phase) == (2 * PRODUCT.flops, 2, "backward")
    assert (back.freed_bytes, back.saved_bytes) == (PRODUCT.saved_bytes, 0)
    assert back.gemm is PRODUCT.gemm


@pytest.mark.parametrize(
    ("forward", "backward"),
    [
        ("all_gather", "reduce_scatter"),
        ("reduce_scatter", "all_gather"),
        ("all_reduce", "all_reduce"),
        ("all_to_all", "all_to_all"),
    ],
)
def test_the_backward_of_a_message_is_its_mirror(forward, backward):
    op = Operation(name="m", kind="collective", collective=forward, message_bytes=7.0, backward=1.0)
    assert backward_of(op).collective == backward
    assert backward_of(op).message_bytes == 7.0


def test_recomputing_runs_a_share_again_and_saves_nothing():
    again = recompute_of(PRODUCT, 0.25)
    assert again is not None
    assert (again.phase, again.count, again.flops) == ("recompute", 0.25, PRODUCT.flops)
    assert (again.saved_bytes, again.freed_bytes) == (0, 0)


def test_nothing_is_recomputed_without_need():
    head = matmul("head", Gemm(m=1.0, n=1.0, k=1.0), stage="last")
    never = matmul("once", Gemm(m=1.0, n=1.0, k=1.0), redo="never")
    assert recompute_of(PRODUCT, 0.0) is None
    assert recompute_of(head, 1.0) is None
    assert recompute_of(never, 1.0) is None


@pytest.mark.parametrize("recompute", [0, 1, 2, 3])
@pytest.mark.parametrize(
    ("model", "stack"),
    [
        ("llama3-8b", "megatron-2025"),
        ("gpt-22b", "megatron-2021"),
        ("deepseek-v3", "nemo"),
        ("qwen3-next-80b-a3b", "torchtitan"),
        ("nemotron-h-56b", "fsdp"),
    ],
)
def test_every_backward_frees_what_its_forward_saved(model, stack, recompute, make_job):
    ops = operations(make_job(model, stack=stack, recompute=recompute, mtp=1.0))
    key = ("name", "stage")
    saved = {
        tuple(getattr(op, k) for k in key): op.saved_bytes * op.count
        for op in ops
        if op.phase == "forward"
    }
    freed = {
        tuple(getattr(op, k) for k in key): op.freed_bytes * op.count
        for op in ops
        if op.phase == "backward" and op.name in {name for name, _ in saved}
    }
    assert sum(saved.values()) > 0
    assert {k: v for k, v in saved.items() if v} == {k: v for k, v in freed.items() if v}
    assert all(op.saved_bytes == 0 for op in ops if op.phase != "forward")
