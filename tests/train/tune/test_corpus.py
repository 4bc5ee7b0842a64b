"""What any Python brings along: many questions, whole ones, and no answer twice."""

from __future__ import annotations

import sys

import pytest

from crore.train.tune.compiled import compiled
from crore.train.tune.conversations import question_of, split
from crore.train.tune.corpus import default_conversations, docstrings, pairs_of


@pytest.fixture(scope="module")
def default():
    return default_conversations()


@pytest.fixture(scope="module")
def about_python():
    return list(docstrings())


def test_the_default_ones_are_many_and_whole(default):
    assert len(default) > 3000
    assert all([m["role"] for m in c] == ["user", "assistant"] for c in default)
    assert all(m["content"].strip() for c in default for m in c)
    assert default == default_conversations()


def test_each_is_there_once(default):
    told = [(question_of(c), c[1]["content"].lower()) for c in default]
    assert len(told) == len(set(told))


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("shutil.copytree", "Recursively copy a directory tree"),
        ("shutil", "Utility functions for copying and archiving files"),
        ("len", "Return the number of items in a container."),
        ("os.getpid", "Return the current process id."),
        ("str.lstrip", "Return a copy of the string with leading whitespace removed."),
    ],
)
def test_functions_modules_and_what_is_in_c_are_asked_about(about_python, name, answer):
    found = [a["content"] for q, a in about_python if f"`{name}`" in q["content"]]
    assert len(found) == 1
    assert found[0].startswith(answer)


def test_no_answer_about_python_is_given_twice(about_python):
    """Else one that is held out would be given away by another question."""
    answers = [c[1]["content"].lower() for c in about_python]
    assert len(answers) == len(set(answers))
    learned, held = split(answers, {k: question_of(c) for k, c in enumerate(about_python)})
    assert held
    assert not {*learned} & {*held}


def test_an_answer_in_c_is_words_and_no_call():
    told = dict(compiled())
    assert told["bytes.maketrans"].startswith("Return a translation table")
    assert told["time.mktime"].startswith("Convert a time tuple in local time")
    assert not any(name.rpartition(".")[2].startswith("_") for name in told)


def test_a_program_with_a_hook_of_its_own_asks_the_same(monkeypatch):
    before = list(compiled())
    monkeypatch.setattr(sys, "excepthook", print)
    assert list(compiled()) == before


def test_a_default_preference_is_over_another_answer(default):
    pairs = pairs_of(default, seed=0)
    assert all(pair.chosen != pair.rejected for pair in pairs)
    assert pairs == pairs_of(default, seed=0)
    assert question_of(pairs[0].prompt)
