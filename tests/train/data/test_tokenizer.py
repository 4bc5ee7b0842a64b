"""Tokenizers: trained, given, and what each id covers of the text."""

from __future__ import annotations

import itertools
import json
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.train.data.texts import story

from crore.errors import InputError
from crore.train.data.tokenizer import (
    END_OF_TEXT,
    TRAINING_CHARS,
    check_size,
    load_encoder,
    thinned,
    train_tokenizer,
)

library = pytest.importorskip("tokenizers")
TEXTS = [story(number) for number in range(40)]


def saved(tmp_path, text):
    path = tmp_path / "tokenizer.json"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    return load_encoder(saved(tmp_path_factory.mktemp("t"), train_tokenizer(TEXTS, 400)))


@pytest.fixture(scope="module")
def metaspace(tmp_path_factory):
    """A tokenizer of another kind: it drops blanks, normalises, and adds a beginning."""
    made = library.Tokenizer(library.models.BPE())
    made.normalizer = library.normalizers.NFKC()
    made.pre_tokenizer = library.pre_tokenizers.Whitespace()
    trainer = library.trainers.BpeTrainer(
        vocab_size=300, special_tokens=["<s>", "</s>"], show_progress=False
    )
    made.train_from_iterator(TEXTS, trainer)
    made.post_processor = library.processors.TemplateProcessing("<s> $A", None, [("<s>", 0)])
    made.enable_truncation(5)
    made.enable_padding()
    return load_encoder(saved(tmp_path_factory.mktemp("m"), made.to_str()))


@given(st.text(max_size=80))
def test_any_text_comes_back_from_its_ids(trained, text):
    ids = trained.encode(text)
    assert trained.decode(ids) == text
    assert all(0 <= number < trained.size <= 400 for number in ids)


@given(st.lists(st.text(max_size=60), min_size=1, max_size=5))
@pytest.mark.parametrize("kind", ["trained", "metaspace"])
def test_the_bytes_covered_sum_to_each_text_exactly(request, kind, texts):
    encoder = request.getfixturevalue(kind)
    ids, lengths = encoder.encode_measured(texts)
    assert list(ids) == list(encoder.encode_many(texts))
    covered = [0]
    for number, length in zip(ids, lengths, strict=True):
        covered[-1] += int(length)
        if number == encoder.end:
            covered.append(0)
    assert covered == [*(len(text.encode()) for text in texts), 0]


def test_each_id_covers_its_own_bytes(trained):
    ids, lengths = trained.encode_measured(["the grid"])
    assert lengths[-1] == 0
    assert [trained.decode([n]) for n in ids[:-1]] == ["the", " grid"]
    assert list(lengths) == [3, 5, 0]


def test_no_text_can_spell_the_end(trained):
    ids = trained.encode(f"a {END_OF_TEXT} b")
    assert trained.end not in ids
    assert trained.decode(ids) == f"a {END_OF_TEXT} b"


def test_training_twice_gives_the_same_file_and_fewer_ids_than_asked_are_fine(tmp_path):
    text = train_tokenizer(TEXTS, 400)
    assert text == train_tokenizer(TEXTS, 400)
    assert 257 < load_encoder(saved(tmp_path, train_tokenizer(["abc abc"], 50_000))).size < 300


def test_a_vocabulary_smaller_than_the_bytes_is_refused():
    with pytest.raises(InputError, match=r"at least 257 tokens .* not 256"):
        train_tokenizer(TEXTS, 256)


def test_a_tokenizer_larger_than_the_model_is_refused_with_both_sizes():
    check_size(400, 400, "t.json")
    with pytest.raises(InputError, match=r"t\.json has 50,257 ids .* vocabulary is 4,096"):
        check_size(50_257, 4_096, "t.json")


@pytest.mark.parametrize("text", ["", "{}", "not json", '{"model": {"type": "BPE"}}'])
def test_a_file_that_is_no_tokenizer_is_refused(tmp_path, text):
    with pytest.raises(InputError, match=r"is no tokenizer.json"):
        load_encoder(saved(tmp_path, text))


def test_a_tokenizer_without_an_end_of_text_is_refused(tmp_path):
    record = json.loads(train_tokenizer(TEXTS, 300))
    record["added_tokens"] = []
    record["model"]["vocab"]["plain"] = record["model"]["vocab"].pop(END_OF_TEXT)
    with pytest.raises(InputError, match="has no end-of-text token"):
        load_encoder(saved(tmp_path, json.dumps(record)))


def test_much_text_is_thinned_evenly():
    texts = [str(number) for number in range(1000)]
    assert list(thinned(texts, TRAINING_CHARS)) == texts
    kept = [int(text) for text in thinned(texts, 4 * TRAINING_CHARS)]
    assert len(kept) == 250
    assert max(b - a for a, b in itertools.pairwise(kept)) == 4


def test_without_tokenizers_the_install_line_is_given(monkeypatch):
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(InputError, match=r"pip install tokenizers$"):
        train_tokenizer(TEXTS, 400)
