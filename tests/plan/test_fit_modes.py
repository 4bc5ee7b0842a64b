"""Each mode's need on a card, and the search for the largest number that fits."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crore.catalog import load_catalog
from crore.cost import shape_of
from crore.cost.arrays import stack_columns
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
