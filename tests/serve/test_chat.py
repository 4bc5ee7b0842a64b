"""A conversation keeps what was said, sends what fits, and can be kept."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from crore.errors import InputError
from crore.serve.chat import Conversation, Sampling, answer_record
from crore.serve.engine import EngineSettings, Piece, start

SHORT = Sampling(temperature=0, max_tokens=8)


class Recorder:
    """An engine that remembers what it was sent, and answers from a list."""

    name, context = "recorder", 100

    def __init__(self, *answers: str, chats: bool = True) -> None:
        self.answers, self._chats = list(answers), chats
        self.sent: list[tuple[Any, dict[str, Any]]] = []

    @property
    def chats(self) -> bool:
        return self._chats

    def chat(self, messages: Any, **sampling: Any) -> Iterator[Piece]:
        self.sent.append((messages, sampling))
        yield from (Piece(text=part) for part in self.answers.pop(0))

    def complete(self, text: str, **sampling: Any) -> Iterator[Piece]:
        return self.chat(text, **sampling)


def test_what_was_said_goes_with_the_next_question():
    engine = Recorder("one", "two")
    talk = Conversation(engine=engine, system="Be kind.", sampling=SHORT)
    for question in ("a", "b"):
        list(talk.ask(question))
    assert [m["content"] for m in engine.sent[1][0]] == ["Be kind.", "a", "one", "b"]
    assert engine.sent[1][1] == {"temperature": 0, "max_tokens": 8}
    talk.reset()
    engine.answers.append("three")
    list(talk.ask("c"))
    assert [m["content"] for m in engine.sent[2][0]] == ["Be kind.", "c"]


def test_a_model_without_turns_goes_on_from_the_text():
    engine = Recorder(" def", " ghi", chats=False)
    talk = Conversation(engine=engine)
    list(talk.ask("abc"))
    list(talk.ask("x"))
    assert [sent[0] for sent in engine.sent] == ["abc", "abc\n def\nx"]


def test_what_had_come_of_an_answer_is_kept_when_it_is_left():
    talk = Conversation(engine=Recorder("word"))
    answer = talk.ask("q")
    assert next(answer).text == "w"
    answer.close()
    assert [m["content"] for m in talk.said] == ["q", "w"]


def test_a_question_without_an_answer_is_dropped():
    talk = Conversation(engine=Recorder(""))
    list(talk.ask("q"))
    assert talk.said == []


def test_the_oldest_turns_are_left_out_once_they_do_not_fit(tiny):
    engine = start(EngineSettings(path=tiny, context=256, threads=1))
    talk = Conversation(engine=engine, sampling=SHORT)
    for turn in range(5):
        list(talk.ask(f"{turn} " + "x" * 60))
    assert len(talk.said) == 10
    assert talk.forgotten >= 4
    assert talk.forgotten % 2 == 0
    with pytest.raises(InputError, match="longer than the 256 tokens of the context"):
        list(talk.ask("x" * 600))
    assert len(talk.said) == 10
    engine.close()


def test_the_same_seed_gives_the_same_answer(engine):
    def answer(seed: int) -> str:
        talk = Conversation(engine=engine, sampling=Sampling(max_tokens=30, seed=seed))
        return "".join(piece.text for piece in talk.ask("hello"))

    assert answer(1) == answer(1) != answer(2)


def test_a_kept_conversation_is_a_line_of_training_data(tmp_path):
    talk = Conversation(engine=Recorder("é"), system="s")
    list(talk.ask("q"))
    talk.save(tmp_path / "kept.jsonl")
    (line,) = (tmp_path / "kept.jsonl").read_text(encoding="utf-8").splitlines()
    roles = [(m["role"], m["content"]) for m in json.loads(line)["messages"]]
    assert roles == [("system", "s"), ("user", "q"), ("assistant", "é")]


def test_the_record_of_an_answer():
    pieces = [Piece(text="a"), Piece(text="b", finish="length"), Piece(tokens=2, tokens_per_s=3.0)]
    assert answer_record(Recorder(), "q", pieces) == {
        "model": "recorder", "question": "q", "answer": "ab", "finish": "length", "tokens": 2,
        "tokens_per_s": 3.0,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("wrong", "said"),
    [({"temperature": 9}, "--temperature must be 0 to 5"), ({"max_tokens": 0}, "--max-tokens must"),
     ({"temperature": float("nan")}, "--temperature must"), ({"seed": -1}, "--seed must be 0 to")],
)  # fmt: skip
def test_sampling_is_checked(wrong, said):
    with pytest.raises(InputError, match=said):
        Sampling(**wrong)
