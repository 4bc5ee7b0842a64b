"""What crore's trainer computes again; FLOPs are held against its code by the rehearsal."""

from __future__ import annotations

import pytest

from crore.cost import operations
from crore.cost.layout import FULL, LIGHT, SELECTIVE


def again(job):
    """Return the share of each product and core that runs again, by name."""
    first = {op.name: op.count for op in operations(job) if op.phase == "forward" and op.flops}
    return {
        op.name: float(op.count / first[op.name])
        for op in operations(job)
        if op.phase == "recompute" and op.flops is not None and op.name in first
    }


@pytest.fixture
def crore_job(make_job):
    return lambda model, mode, **more: make_job(model, stack="crore", recompute=mode, **more)


def test_full_recompute_stops_before_the_last_product_of_a_layer(crore_job):
    assert again(crore_job("llama3-8b", FULL)) == {
        "qkv": 1, "flash attention": 1, "attention output": 1, "feed-forward up": 1,
    }  # fmt: skip
    # Routed experts are combined after their last product, shared ones end a layer.
    deep = again(crore_job("deepseek-v2-lite", FULL))
    assert deep["experts down"] == 1
    assert "shared experts down" not in deep


def test_light_recompute_keeps_every_product(crore_job):
    assert again(crore_job("deepseek-v3", LIGHT)) == {}


def test_selective_recompute_redoes_every_second_product_in_their_order(crore_job):
    on_cpu = again(crore_job("nano-20m", SELECTIVE, gpu="cpu-2core", precision="fp32"))
    assert on_cpu == {"query": 1, "value": 1, "feed-forward gate": 1}
    # The same as fused products: (32 + 8) heads of (32 + 8 + 8), and the gate of gate and up.
    fused = again(crore_job("llama3-8b", SELECTIVE))
    assert fused == {"qkv": pytest.approx(40 / 48), "feed-forward up": 0.5}


def test_a_fifth_product_of_attention_shifts_what_follows(crore_job):
    four, five = (again(crore_job(name, SELECTIVE)) for name in ("deepseek-v2-lite", "deepseek-v3"))
    assert "attention output" not in four
    assert "router" in four
    assert five["attention output"] == 1
    assert "router" not in five


def test_other_stacks_redo_the_whole_layer(make_job):
    assert "feed-forward down" in again(make_job("llama3-8b", stack="torchtitan", recompute=FULL))
