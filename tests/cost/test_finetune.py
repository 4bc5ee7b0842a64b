"""Memory of training on a card: published figures, and what may never turn around."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crore.catalog import load_catalog
from crore.cost import memory, operations, parameters, shape_of
from crore.cost.arrays import stack_columns
from crore.cost.finetune import adapter_parts, training_job, training_parts
from crore.cost.memory import CONTEXT_BYTES
from crore.cost.serving import DEVICE_CONTEXT_BYTES, FORMATS

QWEN_TUNE = {
    ("1.8b", "lora"): (6.7, 7.4, 8.4, 11.0, 16.2, 21.8),
    ("7b", "lora"): (20.1, 20.4, 21.5, 23.8, 29.7, 36.6),
    ("14b", "lora"): (34.6, 35.1, 35.3, 37.4, 42.5, 55.2),
    ("1.8b", "qlora"): (5.8, 6.0, 6.6, 7.8, 10.2, 15.8),
    ("7b", "qlora"): (11.5, 11.5, 12.3, 13.9, 16.9, 23.5),
    ("14b", "qlora"): (18.7, 18.4, 18.9, 19.9, 23.0, 27.9),
    ("72b", "qlora"): (61.4, 61.4, 62.9, 64.1, 68.0, 75.6),
}
"""QwenLM/Qwen@03cd81f README, Profiling of Memory and Speed: one A100-80GB, batch 1, at
QWEN_LENGTHS tokens."""
QWEN_LENGTHS = (256, 512, 1024, 2048, 4096, 8192)
QWEN_RANK = 64
"""finetune/finetune.py of that repository (recalled)."""
LLAMA_FACTORY = {
    "training": (120, 240, 600, 1200),
    "lora": (16, 32, 64, 160),
    "qlora": (6, 12, 24, 48),
}
"""hiyouga/LLaMA-Factory@ff6d4d1 README, Hardware Requirement: 7B, 14B, 30B, 70B, marked estimated
by its authors, who state neither batch nor length."""
LLAMA_FACTORY_MODELS = ("llama2-7b", "llama2-13b", "llama1-33b", "llama2-70b")

CATALOG = load_catalog()
A100 = CATALOG.accelerator("a100-sxm-80gb")
EVERY = stack_columns([shape_of(CATALOG.model(name)) for name in CATALOG.models()])
METHODS = ("lora", "qlora", "training")


def parts(shape, method, *, tokens=512.0, batch=1.0, cards=1.0, rank=16.0):
    job = training_job(shape, A100, "bf16", tokens=tokens, batch=batch, cards=cards)
    if method == "training":
        return training_parts(job)
    return adapter_parts(job, FORMATS["fp16" if method == "lora" else "nf4"], rank)


def need(shape, method, **how):
    return sum(parts(shape, method, **how).values())


def against_qwen(size, method, qwen):
    """Predicted over measured, less one, at every measured length."""
    tokens = np.array(QWEN_LENGTHS, dtype=float)
    shape = qwen(size)
    found = need(shape, method, tokens=tokens, rank=QWEN_RANK)
    return found / 1e9 / np.array(QWEN_TUNE[size, method]) - 1


@pytest.mark.parametrize(("size", "within"), [("7b", 0.08), ("14b", 0.06), ("1.8b", 0.18)])
def test_lora_of_qwen_takes_what_was_measured(size, within, qwen):
    assert np.abs(against_qwen(size, "lora", qwen)).max() <= within


@pytest.mark.parametrize(
    ("size", "within"), [("72b", 0.14), ("14b", 0.27), ("7b", 0.25), ("1.8b", 0.42)]
)
def test_qlora_of_qwen_is_low_when_short_and_high_when_long(size, within, qwen):
    """Measured with DeepSpeed and GPTQ weights: some 2 GB of fixed buffers, half-width logits."""
    error = against_qwen(size, "qlora", qwen)
    assert np.abs(error).max() <= within
    assert error[0] < 0 < error[-1]
    assert (np.diff(error) > 0).all()


@pytest.mark.parametrize("method", METHODS)
def test_the_estimates_of_llama_factory_are_met_within_a_third(method, shapes):
    for name, gigabytes in zip(LLAMA_FACTORY_MODELS, LLAMA_FACTORY[method], strict=True):
        ratio = need(shapes(name), method) / 1e9 / gigabytes
        assert 3 / 4 <= ratio <= 4 / 3, (name, ratio)


def test_full_training_holds_sixteen_bytes_a_parameter(shapes):
    held = parts(shapes("baichuan-13b"), "training")
    states = sum(held[name] for name in ("weights", "gradients", "optimizer"))
    assert states == pytest.approx(16 * 13_264_901_120, rel=1e-6)


def test_full_training_is_the_memory_model_with_one_cards_context(shapes):
    job = training_job(shapes("llama3-8b"), A100, "bf16", tokens=2048.0, batch=2.0, cards=4.0)
    whole = memory(job, operations(job)).peak_bytes
    assert sum(training_parts(job).values()) == pytest.approx(
        whole - CONTEXT_BYTES + DEVICE_CONTEXT_BYTES
    )


def test_adapters_take_twelve_bytes_a_parameter(shapes):
    held = parts(shapes("llama3-8b"), "qlora")
    assert held["adapters"] == 12 * 41_943_040
    assert held["gathered layers"] == 0


def test_two_cards_gather_a_layer_and_never_more_than_they_lack(shapes):
    one, two = (parts(shapes("llama3-8b"), "lora", cards=n) for n in (1.0, 2.0))
    assert two["weights"] == one["weights"] / 2
    assert two["gathered layers"] == pytest.approx(2 * one["weights"] / 32)


@given(tokens=st.floats(1, 1e5), more=st.floats(0, 1e5), method=st.sampled_from(METHODS))
def test_a_longer_context_never_needs_less(tokens, more, method):
    assert (need(EVERY, method, tokens=tokens) <= need(EVERY, method, tokens=tokens + more)).all()


@given(batch=st.integers(1, 500), method=st.sampled_from(METHODS))
def test_a_larger_batch_needs_more(batch, method):
    assert (need(EVERY, method, batch=batch) < need(EVERY, method, batch=batch + 1.0)).all()


@given(cards=st.integers(1, 5000), method=st.sampled_from(METHODS))
def test_one_card_more_never_needs_more_on_each(cards, method):
    more = need(EVERY, method, cards=cards + 1.0)
    assert (more <= need(EVERY, method, cards=float(cards)) * (1 + 1e-12)).all()


@given(method=st.sampled_from(("lora", "qlora")))
def test_adapters_need_less_than_full_training_and_more_than_the_base(method):
    adapters = need(EVERY, method)
    assert (adapters < need(EVERY, "training")).all()
    assert (adapters > parameters(EVERY) / 2).all()
