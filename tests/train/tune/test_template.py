"""A conversation as a model reads it, and which of its tokens are answers."""

from __future__ import annotations

import pytest
from tests.train.tune.tiny import said, write_model

from crore.errors import InputError
from crore.train.tune.conversations import Pair
from crore.train.tune.template import IGNORED, Template, tokenizer_of

CHATML = (
    "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}{{ eos_token }}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


@pytest.fixture(scope="module", params=[None, CHATML], ids=["plain", "its own"])
def tokenizer(request, tmp_path_factory):
    return tokenizer_of(write_model(tmp_path_factory.mktemp("model"), template=request.param))


def test_answers_and_nothing_else_are_learned(tokenizer):
    turns = (*said("who are you", "I am a cat"), *said("say hello", "hello"))
    example = Template(tokenizer).example(turns)
    assert len(example.tokens) == len(example.labels)
    learned = [int(t) for t in example.labels if t != IGNORED]
    assert all(t in (IGNORED, own) for t, own in zip(example.labels, example.tokens, strict=True))
    text = tokenizer.decode(learned)
    assert text.replace(" ", "").replace("\n", "") == "Iamacat<|endoftext|>hello<|endoftext|>"


def test_the_whole_text_is_the_templates(tokenizer):
    turns = (*said("who are you", "I am a cat"), *said("say hello", "hello"))
    example = Template(tokenizer).example(turns)
    assert tokenizer.decode(example.tokens) == tokenizer.apply_chat_template(
        list(turns), tokenize=False
    )


def test_an_answer_begins_where_the_model_would_begin_it(tokenizer):
    turns = said("who are you", "I am a cat")
    example = Template(tokenizer).example(turns)
    prompt = tokenizer.apply_chat_template(
        list(turns[:1]), tokenize=False, add_generation_prompt=True
    )
    ids = tokenizer.encode(prompt, add_special_tokens=False)
    first = next(k for k, label in enumerate(example.labels) if label != IGNORED)
    assert example.tokens[:first].tolist() == ids


def test_both_answers_follow_the_same_prompt(tokenizer):
    chosen, rejected = Template(tokenizer).both(
        Pair(prompt=said("who are you", "")[:1], chosen="a cat", rejected="a mat")
    )
    begin = int((chosen.labels == IGNORED).sum())
    assert chosen.tokens[:begin].tolist() == rejected.tokens[:begin].tolist()
    assert chosen.tokens.tolist() != rejected.tokens.tolist()


def test_a_tokenizer_without_an_end_is_refused(tmp_path):
    tokenizer = tokenizer_of(write_model(tmp_path))
    tokenizer.eos_token = None
    with pytest.raises(InputError, match="names no end-of-text token"):
        Template(tokenizer)


def test_a_folder_without_a_tokenizer_is_one_line(tmp_path):
    with pytest.raises(InputError, match="no tokenizer in"):
        tokenizer_of(tmp_path)
