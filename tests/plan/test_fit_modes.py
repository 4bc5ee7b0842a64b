"""Each mode's need on a card, and the search for the largest number that fits."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.machines import calibration

from crore.catalog import load_catalog
from crore.catalog.accelerators import calibrated
from crore.cost import shape_of
from crore.cost.arrays import stack_columns
from crore.cost.serving import FORMATS, answer_bytes
from crore.plan.fit_modes import cards_of, last_fit, modes_of

CATALOG = load_catalog()
SOME = stack_columns([shape_of(CATALOG.model(name)) for name in CATALOG.models()[::7]])
LIMIT = 1 << 24


@given(limit=st.integers(1, LIMIT), share=st.floats(0, 1))
def test_the_last_number_that_fits_is_found(limit, share):
    last = round(limit * share)
    assert last_fit(lambda tried: np.less_equal(tried, last), limit) == last


@pytest.mark.parametrize(("gpu", "half"), [("rtx-3090", "bf16"), ("t4", "fp16")])
def test_a_card_trains_in_its_16_bit_format(gpu, half):
    cards = cards_of(CATALOG.accelerator(gpu), 2)
    assert (cards.half, cards.gpus) == (half, 2.0)
    assert [mode.name for mode in modes_of(half) if mode.trains] == [
        f"LoRA {half}", "QLoRA nf4", f"training {half}",
    ]  # fmt: skip


@pytest.mark.parametrize("mode", modes_of("bf16"), ids=lambda mode: mode.name)
@given(tokens=st.integers(1, 100_000), gpus=st.integers(1, 64))
def test_what_fits_still_fits_with_fewer_tokens_and_with_more_cards(mode, tokens, gpus):
    card = CATALOG.accelerator("h100-sxm")
    fits = cards_of(card, gpus).fits(mode, SOME, float(tokens))
    assert (cards_of(card, gpus).fits(mode, SOME, max(1.0, tokens / 2)) >= fits).all()
    assert (cards_of(card, gpus + 1).fits(mode, SOME, float(tokens)) >= fits).all()


def test_a_readme_of_baichuan_is_met_within_8_percent():
    """26.0, 15.8 and 9.7 GB (baichuan-inc/Baichuan-13B README; it names no context length)."""
    spec = load_catalog().model("baichuan-13b")
    cards = cards_of(load_catalog().accelerator("rtx-3090"), 1, "transformers")
    printed = dict(zip(("fp16", "int8", "int4"), (26.0e9, 15.8e9, 9.7e9), strict=True))
    for mode in modes_of("bf16", "transformers")[:3]:
        need = sum(map(float, cards.need(mode, shape_of(spec), 512.0).values()))
        assert need == pytest.approx(printed[mode.name.split()[1]], rel=0.08)


def test_llama_cpp_on_a_cpu_peaks_where_it_was_measured():
    """Peak resident memory of 1.1B weights (benchmarks/chat_epyc-2core_2026-11-26.md)."""
    spec = load_catalog().model("llama-3.1-8b")
    spec = replace(
        spec, layers=22, hidden=2048, ffn=5632, heads=32, kv_heads=4, head_dim=64, vocab=32000
    )
    cards = cards_of(load_catalog().accelerator("cpu-2core"), 1, "llamacpp")
    modes = {mode.name: mode for mode in modes_of("bf16", "llamacpp")}
    for name, context, measured in (("q4_0", 512, 699e6), ("q4_0", 4096, 784e6),
                                    ("q8_0", 512, 1205e6)):  # fmt: skip
        parts = cards.need(modes[f"inference {name}"], shape_of(spec), float(context))
        assert sum(map(float, parts.values())) == pytest.approx(measured, rel=0.03)


@pytest.mark.parametrize(("context", "measured"), [(512, 14_582_509_568), (4096, 17_518_198_784)])
def test_baichuan_13b_in_8_bits_peaks_where_it_was_measured(context, measured):
    """benchmarks/baichuan_epyc-2core_2026-11-26.md."""
    cards = cards_of(load_catalog().accelerator("cpu-2core"), 1, "llamacpp")
    mode = next(it for it in modes_of("bf16", "llamacpp") if it.name == "inference q8_0")
    shape = shape_of(load_catalog().model("baichuan-13b"))
    need = sum(map(float, cards.need(mode, shape, float(context)).values()))
    assert need == pytest.approx(measured, rel=0.01)


def test_an_answer_is_as_fast_as_its_bytes_are_read():
    catalog = load_catalog()
    cards = cards_of(catalog.accelerator("rtx-3090"), 1, "llamacpp")
    modes = modes_of("bf16", "llamacpp")
    shape = shape_of(catalog.model("llama-3.1-8b"))
    fp16, q8, q4 = (cards.speed(mode, shape, 512.0) for mode in modes[:3])
    assert fp16 is not None
    assert q8 is not None
    assert q4 is not None
    read = 2 * (8.03e9 - 0.525e9) + 512 * 2 * 2 * 8 * 128 * 32
    assert fp16 == pytest.approx(936e9 / read, rel=0.01)
    assert fp16 < q8 < q4 < 4 * fp16
    longer = cards.speed(modes[0], shape, 8192.0)
    assert longer is not None
    assert longer < fp16
    assert [cards.speed(mode, shape, 512.0) for mode in modes[3:]] == [None] * 3


def test_idle_experts_are_not_read():
    catalog = load_catalog()
    cards = cards_of(catalog.accelerator("h100-sxm"), 1)
    speed = cards.speed(modes_of("bf16")[0], shape_of(catalog.model("mixtral-8x7b")), 1.0)
    read = 2 * (12.9e9 - 0.131e9)  # active parameters (arXiv 2401.04088), without the token table
    assert speed == pytest.approx(cards.accelerator.memory_bytes_per_s / read, rel=0.01)


@pytest.mark.parametrize(("engine", "own"), [("transformers", 0.4e9), ("llamacpp", 0.035e9)])
def test_a_cpu_has_no_context_of_a_card_but_the_process_counts(engine, own):
    shape = shape_of(CATALOG.model("llama-3.1-8b"))
    cpu, card = (
        cards_of(CATALOG.accelerator(name), 1, engine) for name in ("cpu-2core", "rtx-3090")
    )
    for mode in modes_of("bf16", engine)[:3]:
        assert float(cpu.need(mode, shape, 512.0)["context"]) == own
        assert float(card.need(mode, shape, 512.0)["context"]) == 0.5e9
    train = modes_of("bf16", engine)[-1]
    assert float(cpu.need(train, shape, 512.0)["context"]) == 0.4e9


def test_llama_cpp_answers_at_what_was_measured_of_each_type_and_reads_the_cache_in_16_bits():
    rates = {"fp16": 24e9, "q8_0": 16e9, "q4_0": 12e9}
    row = CATALOG.accelerator("cpu-2core")
    measured = calibrated(row, calibration(read_bytes_per_s=rates))
    unmeasured = calibrated(row, calibration())
    shape = shape_of(CATALOG.model("baichuan-13b"))
    modes = {mode.name: mode for mode in modes_of("bf16", "llamacpp")}
    for name, per_s in rates.items():
        mode = modes[f"inference {name}"]
        read, cache = answer_bytes(shape, FORMATS[name], 4096.0, 1.0)
        assert float(cache) == pytest.approx(4096 * 2 * 2 * 5120 * 40)
        found = cards_of(measured, 1, "llamacpp").speed(mode, shape, 4096.0)
        assert found == pytest.approx(1 / float(read / per_s + cache / 24e9))
        plain = cards_of(unmeasured, 1, "llamacpp").speed(mode, shape, 4096.0)
        assert plain == pytest.approx(unmeasured.memory_bytes_per_s / float(read + cache))
    other = cards_of(measured, 1, "transformers")
    assert other.read_rates() == {}
