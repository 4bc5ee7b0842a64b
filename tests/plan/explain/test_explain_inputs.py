"""Every input says where it comes from and whether that was read in the source."""

from __future__ import annotations

import json

import pytest

from crore.cost import fitted_constants
from crore.io import dump_json
from crore.plan import SCHEMA_VERSION, PlanRequest, make_plan, plan_record
from crore.plan.explain.again import Case, case_of
from crore.plan.explain.inputs import NUDGE, input_of, movers


def case_for(**asked: object) -> Case:
    made = make_plan(PlanRequest(tokens=10**10, **asked))  # type: ignore[arg-type]
    return case_of(json.loads(dump_json("plan", SCHEMA_VERSION, plan_record(made))), "plan.json")


@pytest.fixture(scope="module")
def case():
    return case_for(model="llama-3.1-8b", gpu="h100-sxm", gpus=16, precision="fp8")


@pytest.mark.parametrize(
    ("word", "value", "says", "verified"),
    [
        ("gpu:tdp_w", 700.0, "GPU h100-sxm: stas00/ml-engineering", True),
        ("gpu:price_usd", 30_000.0, "rough street price", True),
        ("gpu:peak_flops.fp32", 67e12, "data sheet (recalled)", False),
        ("machine:sms", 132.0, "data sheet (recalled)", False),
        ("machine:nic_bytes_per_s", 50e9, "DGX H100", False),
        ("model:layers", 32, "model llama3-8b", None),
        ("stack:grad_bytes", 4.0, "stack megatron-2025", None),
        ("economics:pue", (1.10, 1.25, 1.56), "figure pue", None),
        ("part:dsp.power_w", 15.0, "part dsp", None),
        ("rental:h100-sxm", None, "rental h100-sxm", None),
        ("width:base_width", 0.13, "any run", None),
        ("fitted:nic_share", None, "fitted on step times of 1062 published runs", None),
        ("const:crore.plan.fleet.STALL_S", 10.0, "estimate", None),
        ("wan:port_bytes_per_s", None, "fabric wan-1000km", None),
    ],
)
def test_a_word_leads_to_its_value_and_source(case, word, value, says, verified):
    made = input_of(case, word)
    assert value is None or made.value == pytest.approx(value)
    assert says in made.origin
    assert verified is None or made.verified == verified


def test_a_fitted_constant_by_stack_is_the_stacks_own(case):
    column = fitted_constants().traffic
    assert input_of(case, "fitted:traffic").value == column[1]  # megatron-2025


def test_a_network_comes_from_fabric_cluster_or_an_assumption():
    home = case_for(model="gpt2", gpu="rtx-3090", gpus=2, seq_len=1024)
    assert "10 Gbit/s Ethernet" in input_of(home, "machine:nic_bytes_per_s").origin
    railed = case_for(model="llama-3.1-8b", gpu="h100-sxm", gpus=16, fabric="rail-400g")
    assert "fabric rail-400g" in input_of(railed, "machine:hop_latency_s").origin


def test_what_moves_the_step_is_what_the_step_is_made_of(case):
    found = {it.name: it.effect for it in movers(case)}
    assert found["gemm_share_fp8"] == pytest.approx(found["linear_measured"], rel=1e-6)
    assert found["memory_share"] == pytest.approx(found["memory_bytes_per_s"], rel=1e-2)
    assert "gemm_share_fp4" not in found
    assert "scan_share" not in found
    assert list(found.values()) == sorted(found.values(), key=lambda e: -abs(e or 0.0))


def test_an_optimizer_bound_by_memory_falls_one_percent_per_percent(case):
    total = case.plan.step_split_s["optimizer"]
    fixed = fitted_constants().host_step_s
    effect = {it.name: it.effect for it in movers(case, "optimizer")}
    gap = 40 * 2.5e-6
    share = (total - fixed - gap) / total
    assert effect["memory_share"] == pytest.approx(-share / (1 + NUDGE), rel=1e-6)
    assert effect["host_step_s"] == pytest.approx(fixed / total, rel=1e-6)


def test_nothing_moves_a_part_that_is_zero(case):
    assert movers(case, "ep") == ()
