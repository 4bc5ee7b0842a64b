"""Samples, validation and the data card of prepared sources."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys

import numpy as np
import pytest
from tests.train.data.texts import SEQ_LEN, folder_of, prepared, story

from crore.errors import InputError

pytest.importorskip("tokenizers")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Two folders with some texts in common, and a cache."""
    root = tmp_path_factory.mktemp("data")
    folder_of(root / "health", 60)
    folder_of(root / "energy", 40, first=50)
    return root


@pytest.fixture(scope="module")
def dataset(place):
    return prepared(f"0.75:{place}/health@CC0-1.0,{place}/energy", place / "cache")


def epoch_of(dataset, source):
    """Return all global indices of the first epoch of one source."""
    indices = np.arange(60_000)
    mine = indices[dataset.sources_of(indices) == source]
    return mine[: dataset._order.windows[source]]


def test_samples_are_whole_windows_of_the_text_and_an_epoch_holds_all_of_them(dataset):
    tokens = dataset._train[0]
    rows = dataset.samples(epoch_of(dataset, 0))
    starts = {
        tuple(tokens[at : at + SEQ_LEN + 1]) for at in range(0, len(tokens) - SEQ_LEN, SEQ_LEN)
    }
    assert rows.dtype == np.int64
    assert rows.shape[1] == SEQ_LEN + 1
    assert {tuple(row) for row in rows} == starts


def test_any_order_or_split_of_indices_gives_the_same_samples(dataset):
    indices = np.random.default_rng(0).integers(0, 10**9, 50)
    rows = dataset.samples(indices)
    assert np.array_equal(rows[::-1], dataset.samples(indices[::-1]))
    assert np.array_equal(rows[7:8], dataset.samples(indices[7:8]))
    assert dataset.samples(indices[:0]).shape == (0, SEQ_LEN + 1)


def test_sources_come_by_weight(dataset):
    found = np.bincount(dataset.sources_of(np.arange(4000)))
    assert list(found) == [3000, 1000]
    assert dataset.weights == pytest.approx((0.75, 0.25))
    assert dataset.epochs(4000)[0] == pytest.approx(3000 / dataset._order.windows[0])


def test_no_held_out_document_stands_in_the_training_text(dataset):
    train = [dataset.decode(tokens.tolist()) for tokens in dataset._train]
    held = [dataset.decode(tokens.tolist()) for tokens in dataset._held]
    everything = [story(number) for number in range(90)]
    outside = [text for text in everything if any(text in part for part in held)]
    assert outside
    assert not any(text in part for text in outside for part in train)
    for text in everything:
        assert any(text in part for part in train) != (text in outside)


def test_validation_is_fixed_and_predicts_each_token_at_most_once(dataset, place):
    rows = dataset.validation(10**9)
    assert len(rows) == dataset.validation_rows
    assert np.array_equal(dataset.validation(3), rows[:3])
    other = prepared(f"0.75:{place}/health@CC0-1.0,{place}/energy", place / "cache", seed=99)
    assert np.array_equal(other.validation(10**9), rows)
    predicted = sum(max(len(t) - 1, 0) // SEQ_LEN for t in dataset._held) * SEQ_LEN
    assert rows[:, 1:].size == predicted


def test_validation_bytes_are_those_of_the_predicted_text(dataset):
    rows = np.arange(dataset.validation_rows)
    sizes = dataset.validation_bytes(rows)
    tokens = dataset.validation(len(rows))
    for row, size in zip(tokens, sizes, strict=True):
        whole = dataset.decode(row.tolist()).encode()
        first = dataset.decode(row[:1].tolist()).encode()
        if "\ufffd" not in whole.decode():  # no character cut at an edge
            assert size == len(whole) - len(first)
    assert np.array_equal(dataset.validation_bytes(rows[::-1]), sizes[::-1])
    held = sum(source["validation"]["bytes"] for source in dataset.card["sources"])
    assert dataset.bytes_per_token == held / sum(len(t) for t in dataset._held)


def test_the_card_says_what_was_read(dataset, place):
    health, energy = dataset.card["sources"]
    texts = [story(number) for number in range(60)]
    assert health["path"] == f"{place}/health"
    assert (health["licence"], energy["licence"]) == ("CC0-1.0", "unknown")
    assert (health["documents"], health["files"]) == (60, 60)
    assert health["bytes"] == sum(len(text.encode()) for text in texts)
    for source in (health, energy):
        for key in ("bytes", "documents"):
            assert source[key] == source["train"][key] + source["validation"][key]
    tokens = [len(part) for part in (*dataset._train, *dataset._held)]
    assert dataset.card["tokens"] == sum(tokens)
    size = json.loads(dataset.tokenizer_file.read_text(encoding="utf-8"))["model"]["vocab"]
    assert dataset.card["tokenizer"]["size"] == len(size) <= dataset.vocab
    sha = hashlib.sha256(dataset.tokenizer_file.read_bytes()).hexdigest()
    assert dataset.card["tokenizer"]["sha256"] == sha
    assert dataset.end_of_text == dataset.card["tokenizer"]["end_of_text"]


def test_text_and_ids_round_trip(dataset):
    assert dataset.decode(dataset.encode("the grid 漢字")) == "the grid 漢字"


def test_less_than_one_sample_is_refused_with_the_numbers(dataset, place):
    names = f"0.75:{place}/health@CC0-1.0,{place}/energy"
    tokens = len(dataset._train[0])
    with pytest.raises(InputError, match=f"{tokens:,} tokens to train on; one sample takes 20,001"):
        prepared(names, place / "cache", seq_len=20_000)
    with pytest.raises(InputError, match=r"held out for validation has .* one sample takes 3,001"):
        prepared(names, place / "cache", seq_len=3_000)


def test_one_small_text_has_nothing_to_hold_out(tmp_path):
    (tmp_path / "a.txt").write_text(story(1), encoding="utf-8")
    with pytest.raises(InputError, match=r"held out for validation has 0 tokens"):
        prepared(f"{tmp_path}/a.txt", tmp_path / "cache")
    (tmp_path / "b.txt").write_text(" \n \n", encoding="utf-8")
    with pytest.raises(InputError, match="holds no text"):
        prepared(f"{tmp_path}/b.txt", tmp_path / "cache")
    with pytest.raises(InputError, match="needs a source and a sequence"):
        prepared(f"{tmp_path}/a.txt", tmp_path / "cache", seq_len=0)


def test_one_long_text_is_split_within(tmp_path):
    text = "\n\n".join(story(number) for number in range(50))
    (tmp_path / "a.txt").write_text(text, encoding="utf-8")
    found = prepared(f"{tmp_path}/a.txt", tmp_path / "cache")
    assert found.validation_rows > 10
    assert found.card["sources"][0]["bytes"] == len(text.encode())


def test_ids_past_two_bytes_are_kept(tmp_path):
    """A tokenizer of more than 65,536 ids is stored in four bytes each."""
    folder_of(tmp_path / "texts")
    small = prepared(f"{tmp_path}/texts", tmp_path / "cache")
    rows = small.samples(np.arange(200))
    moved = int(rows.max())
    record = json.loads(small.tokenizer_file.read_text(encoding="utf-8"))
    ids = record["model"]["vocab"]
    ids[next(name for name in ids if ids[name] == moved)] = 70_000
    given = tmp_path / "large.json"
    given.write_text(json.dumps(record), encoding="utf-8")
    large = prepared(f"{tmp_path}/texts", tmp_path / "cache", vocab=80_000, tokenizer=given)
    assert [small.card["dtype"], large.card["dtype"]] == ["uint16", "uint32"]
    assert np.array_equal(large.samples(np.arange(200)), np.where(rows == moved, 70_000, rows))


def test_the_data_needs_no_torch():
    script = (
        "import sys; sys.modules['torch'] = None\n"
        "import crore.train.data\n"
        "assert not {'tokenizers', 'pyarrow'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
