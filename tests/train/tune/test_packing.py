"""Rows hold every conversation once, and none sees another."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.train.tune.tiny import conversations, write_model

from crore.train.tune.losses import answer_nats, log_probs, logits_of
from crore.train.tune.models import load
from crore.train.tune.packing import pack, stack
from crore.train.tune.settings import Tuning
from crore.train.tune.template import IGNORED, Example, Template, tokenizer_of


def example(length: int, mark: int) -> Example:
    tokens = np.full(length, mark)
    labels = np.where(np.arange(length) >= length // 2, mark, IGNORED)
    return Example(tokens=tokens, labels=labels)


@given(st.lists(st.integers(0, 20), max_size=30), st.integers(2, 16))
def test_every_conversation_that_fits_is_in_one_row_whole(lengths, seq_len):
    examples = [example(length, mark + 1) for mark, length in enumerate(lengths)]
    rows = pack(examples, seq_len, pad=0)
    fits = [k for k, length in enumerate(lengths) if 1 < length <= seq_len]
    for k in fits:
        assert int((rows.tokens == k + 1).sum()) == lengths[k]
        at = np.flatnonzero((rows.tokens == k + 1).any(1))
        assert len(at) == 1
        assert rows.positions[at[0]][rows.tokens[at[0]] == k + 1].tolist() == [*range(lengths[k])]
    assert int((rows.tokens > 0).sum()) == sum(lengths[k] for k in fits)
    assert len(rows) <= len(fits)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = write_model(tmp_path_factory.mktemp("model"))
    tuning = Tuning(folder=folder, base=folder, method="full", device="cpu")
    return load(tuning).eval(), Template(tokenizer_of(folder))


@torch.no_grad()
def test_a_conversation_in_a_row_of_several_is_as_alone(model):
    tuned, template = model
    examples = [template.example(c) for c in conversations(6)]
    together = stack([examples], sum(map(len, examples)) + 9, pad=0)
    found, start = logits_of(tuned, together)[0], 0
    for each in examples:
        alone = logits_of(tuned, stack([[each]], len(each), pad=0))[0]
        torch.testing.assert_close(found[start : start + len(each)], alone, atol=1e-5, rtol=0)
        start += len(each)


@torch.no_grad()
def test_the_loss_of_packed_rows_is_the_sum_of_the_conversations(model):
    tuned, template = model
    examples = [template.example(c) for c in conversations(9)]
    packed = pack(examples, 64, pad=0)
    alone = sum(float(answer_nats(tuned, stack([[e]], len(e), pad=0))) for e in examples)
    assert float(answer_nats(tuned, packed)) == pytest.approx(alone, rel=1e-5)
    each = stack([[e] for e in examples], max(map(len, examples)), pad=0)
    assert float(-log_probs(tuned, each).sum()) == pytest.approx(alone, rel=1e-5)
    answers = sum(int((e.labels != IGNORED).sum()) for e in examples)
    assert packed.answers == each.answers == answers
