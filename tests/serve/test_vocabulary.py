"""llama.cpp splits text into the ids that the tokenizer itself gives, whatever the script."""

from __future__ import annotations

import http.client
import json
from dataclasses import replace
from pathlib import Path

import pytest
import sentencepiece
import tokenizers
import torch
from tests.serve.kinds import CONTEXT, KINDS, as_model, decoder
from tests.serve.kinds import TEXTS as SOME
from tests.serve.llama import witness
from tests.serve.strings import scripts, strings

from crore.errors import InputError
from crore.serve.export import export_gguf
from crore.serve.export.vocabulary import PATTERNS, UNUSED, read_vocabulary
from crore.train.data.tokenizer import END_OF_TEXT, load_encoder, train_tokenizer

ROWS = 3000
JSON = {"Content-Type": "application/json"}
TEXTS = [" ".join(strings(60, seed)) for seed in range(100)] + [
    "The quick brown fox doesn't jump over 1234567 lazy dogs; we'll see.\n\n    return x == 1\n"
]


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    torch.set_num_threads(1)


def differing(folder: Path, encode, count: int, seed: int) -> list[tuple[str, list[int]]]:
    """Export a model with the tokenizer in a folder; return the strings llama.cpp splits otherwise.

    Through its HTTP server, the only way in.
    """
    module = decoder(replace(KINDS["dense"], vocab=ROWS))
    path = folder / "model.gguf"
    export_gguf(as_model(module, folder), path, "f16")
    wrong = []
    with witness(path, CONTEXT) as held:
        line = http.client.HTTPConnection(held.server.listening_address.split("//")[1])
        for text in strings(count, seed):
            body = {"content": text, "add_special": False, "parse_special": False}
            line.request(
                "POST", "/tokenize", json.dumps(body), {"Content-Type": "application/json"}
            )
            found = json.loads(line.getresponse().read())["tokens"]
            if found != encode(text):
                wrong.append((text, found))
        line.close()
    return wrong


def test_strings_are_of_every_script():
    assert len(scripts()) > 300
    assert len({letter for text in strings(10_000, seed=1) for letter in text}) > 15_000


def test_ids_of_our_own_tokenizer_are_equal_on_ten_thousand_strings(tmp_path):
    (tmp_path / "tokenizer.json").write_text(train_tokenizer(TEXTS, ROWS - 7), encoding="utf-8")
    encoder = load_encoder(tmp_path / "tokenizer.json")
    assert differing(tmp_path, encoder.encode, 10_000, seed=1) == []


def split_by(pattern: str | None):
    """Return a byte-level tokenizer with the pattern of others before its merges."""
    made = tokenizers.Tokenizer(tokenizers.models.BPE())
    byte_level = tokenizers.pre_tokenizers.ByteLevel(
        add_prefix_space=False, use_regex=pattern is None
    )
    first = (
        tokenizers.pre_tokenizers.Digits(individual_digits=True)
        if pattern is None
        else tokenizers.pre_tokenizers.Split(tokenizers.Regex(pattern), "isolated")
    )
    made.pre_tokenizer = tokenizers.pre_tokenizers.Sequence([first, byte_level])
    made.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=ROWS, special_tokens=[END_OF_TEXT], show_progress=False,
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
    )  # fmt: skip
    made.train_from_iterator(TEXTS, trainer)
    return made


@pytest.mark.parametrize("pattern", [None, *PATTERNS], ids=["smollm", *PATTERNS.values()])
def test_ids_of_published_patterns_are_equal(pattern, tmp_path):
    made = split_by(pattern)
    made.save(str(tmp_path / "tokenizer.json"))
    wrong = differing(
        tmp_path, lambda text: made.encode(text, add_special_tokens=False).ids, 1000, seed=2
    )
    assert wrong == []


def piece_model(folder: Path) -> sentencepiece.SentencePieceProcessor:
    """Train a SentencePiece model as Baichuan's: BPE with bytes where no piece fits."""
    folder.mkdir(exist_ok=True)
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([*SOME] * 20), model_prefix=str(folder / "tokenizer"),
        vocab_size=420, model_type="bpe", byte_fallback=True, hard_vocab_limit=False, bos_id=1,
        eos_id=2, minloglevel=2, normalization_rule_name="identity", num_threads=1,
        remove_extra_whitespaces=False,
    )  # fmt: skip
    (folder / "config.json").write_text('{"bos_token_id": 1, "eos_token_id": 2}')
    return sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))


def test_ids_of_a_sentencepiece_model_are_equal(tmp_path):
    processor = piece_model(tmp_path)
    wrong = differing(tmp_path, processor.encode, 1000, seed=3)

    assert wrong == []


def test_rows_without_a_token_are_filled_and_more_tokens_than_rows_refused(tmp_path):
    (tmp_path / "tokenizer.json").write_text(train_tokenizer(TEXTS[-1:], 300), encoding="utf-8")
    found = read_vocabulary(tmp_path, 310)
    assert len(found.tokens) == len(found.types) == 310
    assert found.tokens[-1] == b"[PAD309]"
    assert found.types[-1] == UNUSED
    with pytest.raises(InputError, match=r"the tokenizer has 300 ids but .* is 299"):
        read_vocabulary(tmp_path, 299)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"model": {"type": "Unigram"}}, "a tokenizer of kind Unigram has no form in GGUF"),
        ({"pre_tokenizer": {"type": "Whitespace"}}, "no known splitting like this tokenizer's"),
        ({"pre_tokenizer": None}, "no known splitting like this tokenizer's"),
    ],
)
def test_what_llama_cpp_has_no_code_for_is_refused(change, said, tmp_path):
    made = json.loads(train_tokenizer(TEXTS[-1:], 300)) | change
    (tmp_path / "tokenizer.json").write_text(json.dumps(made))
    with pytest.raises(InputError, match=said):
        read_vocabulary(tmp_path, 300)


def test_a_damaged_sentencepiece_model_is_one_line(tmp_path):
    (tmp_path / "tokenizer.model").write_bytes(b"none")
    with pytest.raises(InputError, match=r"tokenizer\.model cannot be read"):
        read_vocabulary(tmp_path, 300)
