"""Accelerators carry their makers' figures, in SI units, whatever the file is written in."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crore.catalog import load_catalog
from crore.catalog.accelerators import FORMATS, build_accelerator
from crore.errors import InputError, UnknownName

CATALOG = load_catalog()
CARD = {
    "bf16_tflops": 100.0,
    "memory_gib": 16,
    "memory_tb_per_s": 0.5,
    "host_gb_per_s": 31.5,
    "source": "mine",
    "date": "2025",
}
_PUBLISHED = """
v100-sxm-32gb a100-sxm-40gb a100-sxm-80gb a100-pcie-80gb rtx-3090 rtx-4090 h100-sxm h100-pcie-80gb
h100-sxm-96gb-hbm2e h800-sxm h200-sxm b200-sxm b300-sxm gb200-nvl72 gb300-nvl72 vr-nvl144 tpu-v4
tpu-v5e tpu-v5p tpu-v6e tpu-v7x mi300x mi355x gaudi2
"""
PUBLISHED = _PUBLISHED.split()


def test_every_published_accelerator_is_a_key_of_its_own_name():
    assert set(PUBLISHED) <= set(CATALOG.accelerators())


def test_every_shipped_row_is_whole_and_says_where_it_is_from():
    for name in CATALOG.accelerators():
        gpu = CATALOG.accelerator(name)
        assert gpu.provenance.source
        assert gpu.provenance.date
        assert set(gpu.matmul_flops) <= set(gpu.peak_flops) <= set(FORMATS)
        assert gpu.memory_bytes >= 8e9, name
        assert 1e10 <= gpu.memory_bytes_per_s <= 3e13, name
        assert gpu.domain_size % gpu.node_size == 0 or gpu.domain_size == 1, name
        assert (gpu.domain_size > 1) == (gpu.domain_bytes_per_s > 0), name
        assert gpu.host_bytes_per_s > 0, name


def test_nobody_measures_more_than_the_peak():
    for name in CATALOG.accelerators():
        gpu = CATALOG.accelerator(name)
        for kind, rate in gpu.matmul_flops.items():
            assert 0.5 < rate / gpu.peak_flops[kind] < 0.9, (name, kind)


def test_the_rtx_3090_is_nvidias_data_sheet():
    gpu = CATALOG.accelerator("3090")
    assert gpu.name == "rtx-3090"
    assert gpu.peak_flops == {"fp32": 35.6e12, "tf32": 35.6e12, "fp16": 71e12, "bf16": 71e12}
    assert gpu.memory_bytes == 24 * 2**30
    assert gpu.memory_bytes_per_s == pytest.approx(936.2e9)
    assert (gpu.sms, gpu.tdp_w, gpu.host_bytes_per_s) == (82, 350, 31.5e9)
    assert (gpu.node_size, gpu.domain_size, gpu.nic_bytes_per_s) == (1, 1, 0)


def test_the_h100_is_dense_rates_and_measured_ceilings():
    gpu = CATALOG.accelerator("h100")
    assert (gpu.peak_flops["bf16"], gpu.peak_flops["fp8"]) == (989e12, 1979e12)
    assert gpu.matmul_flops == {"bf16": 794.5e12, "fp8": 1402.6e12}
    assert (gpu.memory_bytes_per_s, gpu.sms, gpu.tdp_w) == (3.35e12, 132, 700)
    assert (gpu.domain_bytes_per_s, gpu.nic_bytes_per_s) == (450e9, 50e9)


def test_the_500_w_h100_keeps_the_h100s_compute_but_not_its_memory_or_power():
    slow, fast = CATALOG.accelerator("h100-sxm-96gb-hbm2e"), CATALOG.accelerator("h100-sxm")
    assert slow.peak_flops == fast.peak_flops
    assert (slow.tdp_w, slow.memory_bytes_per_s) == (500, 2.4e12)


@pytest.mark.parametrize(
    ("name", "node", "domain", "domain_gb", "nic_gb"),
    [
        ("v100-sxm-32gb", 16, 16, 150, 6.25),
        ("a100-sxm-40gb", 8, 8, 300, 25),
        ("a100-sxm-80gb", 8, 8, 300, 25),
        ("h100-sxm", 8, 8, 450, 50),
        ("h800-sxm", 8, 8, 200, 50),
        ("h200-sxm", 8, 8, 450, 50),
        ("b200-sxm", 8, 8, 900, 50),
        ("b300-sxm", 8, 8, 900, 100),
        ("gb200-nvl72", 4, 72, 900, 50),
        ("gb300-nvl72", 4, 72, 900, 100),
        ("vr-nvl144", 4, 72, 1800, 200),
    ],
)
def test_networks_are_per_gpu_and_one_direction(name, node, domain, domain_gb, nic_gb):
    gpu = CATALOG.accelerator(name)
    assert (gpu.node_size, gpu.domain_size) == (node, domain)
    assert gpu.domain_bytes_per_s == domain_gb * 1e9
    assert gpu.nic_bytes_per_s == nic_gb * 1e9


def test_the_custom_h100_does_not_inherit_a_price():
    assert CATALOG.accelerator("h100-sxm").price_usd == 30_000
    assert CATALOG.accelerator("h800-sxm").price_usd == 0


@pytest.mark.parametrize(
    ("alias", "key"),
    [
        ("a100", "a100-sxm-80gb"),
        ("h100", "h100-sxm"),
        ("gb200", "gb200-nvl72"),
        ("cpu", "cpu-2core"),
    ],
)
def test_an_alias_is_the_row_itself(alias, key):
    assert CATALOG.accelerator(alias).name == key


def test_an_unknown_gpu_is_refused_with_the_nearest_names():
    with pytest.raises(UnknownName, match=r"unknown GPU 'h1000'.*h100.*crore catalog gpus"):
        CATALOG.accelerator("h1000")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"source": None}, "no source"),
        ({"date": None}, "no date"),
        ({"bf16_tflop": 1}, "did you mean bf16_tflops"),
        ({"bf16_tflops": None}, "peak rate"),
        ({"bf16_tflops": "fast"}, "number"),
        ({"bf16_tflops": -1}, "number"),
        ({"bf16_tflops": 0}, "bf16_tflops is a number > 0, not 0"),
        ({"matmul_bf16_tflops": 0}, "matmul_bf16_tflops is a number > 0"),
        ({"memory_gib": 0}, "memory_gib is a number > 0"),
        ({"memory_tb_per_s": 0.0}, "memory_tb_per_s is a number > 0"),
        ({"host_gb_per_s": 0}, "host_gb_per_s is a number > 0"),
        ({"sms": 10**400}, "sms is a whole number from 0 to 1e15"),
        ({"bf16_tflops": float("nan")}, "number"),
        ({"memory_gb": 16}, "exactly one"),
        ({"memory_gib": None}, "exactly one"),
        ({"memory_tb_per_s": None}, "needs memory_tb_per_s"),
        ({"domain_size": 8}, "needs both"),
        ({"domain_gb_per_s": 900}, "needs both"),
        ({"node_size": 0}, "node_size"),
    ],
)
def test_a_bad_row_is_refused_by_its_reason(change, message):
    row = {key: value for key, value in {**CARD, **change}.items() if value is not None}
    with pytest.raises(InputError, match=message):
        build_accelerator("mine", row)


@given(st.floats(0.1, 1e5), st.floats(0.01, 100), st.floats(0, 1e4), st.floats(1, 1e4))
def test_units_become_si_once(tflops, tb_per_s, gbit, gib):
    row = {**CARD, "bf16_tflops": tflops, "memory_tb_per_s": tb_per_s, "memory_gib": gib}
    gpu = build_accelerator("mine", {**row, "nic_gbit_per_s": gbit})
    assert gpu.peak_flops["bf16"] == pytest.approx(tflops * 1e12)
    assert gpu.memory_bytes_per_s == pytest.approx(tb_per_s * 1e12)
    assert gpu.nic_bytes_per_s == pytest.approx(gbit * 1e9 / 8)
    assert gpu.memory_bytes == pytest.approx(gib * 2**30)
