"""A model that a card cannot hold is shared with its host: all of it, and no more than fits."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crore.catalog import load_catalog
from crore.cost import shape_of
from crore.cost.linears import linears
from crore.cost.serving import (
    FORMATS,
    HOST_PROCESS_BYTES,
    TORCH_PROCESS_BYTES,
    answer_bytes,
    weight_bytes,
)
from crore.plan.fit_modes import cards_of, modes_of
from crore.plan.fit_offload import HOST_BYTES_PER_S, offload

CATALOG = load_catalog()
CARD = CATALOG.accelerator("rtx-3090")
LLAMA_CPP = {mode.name: mode for mode in modes_of("bf16", "llamacpp")}
TRANSFORMERS = {mode.name: mode for mode in modes_of("bf16", "transformers")}


def shared(model="llama-3.1-70b", mode="inference q4_0", tokens=4096.0, **card):
    """Return the split by llama.cpp, and the need it shares."""
    cards = cards_of(replace(CARD, **card), 1, "llamacpp")
    shape = shape_of(CATALOG.model(model))
    return offload(cards, LLAMA_CPP[mode], shape, tokens), cards, shape


@given(gigabytes=st.floats(4, 200), tokens=st.integers(1, 20_000))
def test_card_and_host_hold_the_whole_and_one_layer_more_would_not_fit(gigabytes, tokens):
    found, cards, shape = shared(tokens=float(tokens), memory_bytes=gigabytes * 1e9)
    need = sum(map(float, cards.need(LLAMA_CPP["inference q4_0"], shape, float(tokens)).values()))
    if found is None:
        return
    assert found.card_layers + found.host_layers == 80
    assert found.card_bytes + found.host_bytes == pytest.approx(need + HOST_PROCESS_BYTES)
    layer = (found.host_bytes - HOST_PROCESS_BYTES) / found.host_layers
    assert found.card_bytes <= gigabytes * 1e9
    if found.host_layers > 1:  # a layer weighs less than that, for the host holds the table too
        assert found.card_bytes + layer > gigabytes * 1e9


def test_a_larger_card_takes_more_layers_and_answers_faster():
    made = [shared(memory_bytes=g * 1e9)[0] for g in (12, 16, 24, 40)]
    layers = [it.card_layers for it in made if it]
    speeds = [it.tokens_per_s for it in made if it]
    assert len(layers) == 4
    assert layers == sorted(set(layers))
    assert speeds == sorted(set(speeds))
    assert shared(memory_bytes=1e9)[0] is None


def test_the_speed_is_between_that_of_the_host_alone_and_of_the_card_alone():
    found, _, shape = shared()
    read = sum(map(float, answer_bytes(shape, FORMATS["q4_0"], 4096.0, 1.0)))
    assert found is not None
    assert HOST_BYTES_PER_S / read < found.tokens_per_s < CARD.memory_bytes_per_s / read
    # By hand: q4_0 of 70.6B weights is 40 GB, of which 33 of 80 layers lie on the host.
    assert found.card_layers == 47
    host_s = 33 / 80 * 40e9 / 51.2e9
    card_s = 47 / 80 * 40e9 / 936e9
    assert found.tokens_per_s == pytest.approx(1 / (host_s + card_s), rel=0.04)


def test_transformers_sends_what_lies_on_the_host_over_the_bus_and_shares_16_bits_alone():
    shape = shape_of(CATALOG.model("baichuan-13b"))
    cards = cards_of(CARD, 1, "transformers")
    found = offload(cards, TRANSFORMERS["inference fp16"], shape, 512.0)
    assert found is not None
    weights = float(weight_bytes(shape, FORMATS["fp16"], linears(shape)))
    on_host = found.host_bytes - TORCH_PROCESS_BYTES
    # What is on the card beside weights fits too: the rest of the need, and room for one layer.
    assert found.card_bytes <= CARD.memory_bytes
    assert on_host > weights - CARD.memory_bytes
    read_s = weights / CARD.memory_bytes_per_s
    assert found.tokens_per_s == pytest.approx(
        1 / (on_host / CARD.host_bytes_per_s + read_s), rel=0.03
    )
    for mode in ("inference int8", "inference int4"):
        assert offload(cards, TRANSFORMERS[mode], shape, 512.0) is None


def test_nothing_is_shared_where_it_trains_on_a_cpu_or_on_several_cards():
    shape = shape_of(CATALOG.model("llama-3.1-70b"))
    alone = cards_of(CARD, 1, "llamacpp")
    assert offload(alone, LLAMA_CPP["QLoRA nf4"], shape, 512.0) is None
    assert offload(alone, LLAMA_CPP["training bf16"], shape, 512.0) is None
    for cards in (cards_of(CARD, 2, "llamacpp"),
                  cards_of(CATALOG.accelerator("cpu-2core"), 1, "llamacpp")):  # fmt: skip
        assert offload(cards, LLAMA_CPP["inference q4_0"], shape, 512.0) is None
