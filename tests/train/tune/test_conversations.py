"""What is read from files, and what any Python brings along."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crore.errors import InputError
from crore.train.tune.conversations import read_conversations, read_pairs, split

OPENAI = {"messages": [{"role": "system", "content": "be brief"}, {"role": "user", "content": "hi"},
                       {"role": "assistant", "content": "hello"}]}  # fmt: skip
SHAREGPT = {"conversations": [{"from": "human", "value": "hi"}, {"from": "gpt", "value": "hello"}]}


def lines(folder, *records):
    path = folder / "talk.jsonl"
    path.write_text("\n".join(r if isinstance(r, str) else json.dumps(r) for r in records))
    return path


def test_openais_and_sharegpts_lines_are_read(tmp_path):
    found = read_conversations(lines(tmp_path, OPENAI, "", SHAREGPT))
    assert [[m["role"] for m in c] for c in found] == [
        ["system", "user", "assistant"], ["user", "assistant"],
    ]  # fmt: skip
    assert found[1][1]["content"] == "hello"


@pytest.mark.parametrize(
    ("record", "said"),
    [
        ("{", "line 1 is no JSON"),
        ("3", 'line 1 holds neither "messages"'),
        ({"messages": [{"role": "user", "content": "hi"}]}, "line 1 has no answer"),
        ({"messages": [{"role": "robot", "content": "hi"}]}, "role 'robot'; one of: system"),
        ({"messages": [{"role": "user", "content": 3}]}, "content must be text, not 3"),
        ({"messages": ["hi"]}, "role None"),
        ("", "holds no line"),
    ],
)
def test_a_line_that_is_none_is_named(tmp_path, record, said):
    with pytest.raises(InputError, match=said):
        read_conversations(lines(tmp_path, record))


def test_preferences_are_read(tmp_path):
    path = lines(
        tmp_path, {"prompt": "hi", "chosen": "hello", "rejected": "no"},
        {"prompt": OPENAI["messages"][:2], "chosen": "hello", "rejected": "no"},
    )  # fmt: skip
    first, second = read_pairs(path)
    assert first.prompt == ({"role": "user", "content": "hi"},)
    assert [m["role"] for m in second.prompt] == ["system", "user"]


@pytest.mark.parametrize(
    ("record", "said"),
    [
        ({"chosen": "a", "rejected": "b"}, 'line 1 has no "prompt"'),
        ({"prompt": "hi", "chosen": "a"}, 'line 1 needs "chosen" and "rejected"'),
        ({"prompt": "hi", "chosen": "a", "rejected": 3}, "each a text"),
    ],
)
def test_a_preference_that_lacks_a_key_is_named(tmp_path, record, said):
    with pytest.raises(InputError, match=said):
        read_pairs(lines(tmp_path, record))


@given(st.lists(st.sampled_from("abcdefghijklmnop"), max_size=40))
def test_a_question_is_on_one_side_alone(asked):
    learned, held = split(list(range(len(asked))), dict(enumerate(asked)))
    assert sorted(learned + held) == [*range(len(asked))]
    assert not {asked[k] for k in learned} & {asked[k] for k in held}


def test_the_beginning_of_what_is_evaluated_on_is_like_the_whole():
    kinds = ["talk"] * 2000 + ["code"] * 6000
    _, held = split(kinds, {k: f"question {k}" for k in range(len(kinds))})
    assert 0.1 < held[:128].count("talk") / 128 < 0.4
