"""One conversation with a model: what was said, and what is still sent to it."""

from __future__ import annotations

import json
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol

from crore.errors import InputError
from crore.io import write_text
from crore.serve.engine import AnswerError, Piece

CHAT_VERSION: Final = 1
"""Of crore.answer, the document of `crore chat --ask … --json`."""
MAX_TOKENS: Final = 1024
"""Of one answer."""
Message = dict[str, str]


@dataclass(frozen=True, kw_only=True, slots=True)
class Sampling:
    """How the next token is drawn."""

    temperature: float = 0.7
    """0 takes the likeliest."""
    max_tokens: int = MAX_TOKENS
    seed: int | None = None
    """The same seed, model and conversation give the same answer; None draws anew."""

    def __post_init__(self) -> None:
        if not 0 <= self.temperature <= 5:
            raise InputError(f"--temperature must be 0 to 5, not {self.temperature:g}")
        if not 1 <= self.max_tokens < 1 << 24:
            raise InputError(f"--max-tokens must be at least 1, not {self.max_tokens}")
        if self.seed is not None and not 0 <= self.seed < 1 << 32:
            raise InputError(f"--seed must be 0 to {(1 << 32) - 1:,}, not {self.seed}")

    def body(self) -> dict[str, Any]:
        """Return the fields of a request."""
        seed = {} if self.seed is None else {"seed": self.seed}
        return {"temperature": self.temperature, "max_tokens": self.max_tokens, **seed}


class Answering(Protocol):
    """What a conversation asks of an engine."""

    @property
    def name(self) -> str:
        """Of the model."""

    @property
    def chats(self) -> bool:
        """Whether the model was taught turns."""

    @property
    def context(self) -> int:
        """Tokens of one conversation."""

    def chat(self, messages: list[Message], **sampling: Any) -> Iterator[Piece]:
        """Yield the answer to a conversation."""

    def complete(self, text: str, **sampling: Any) -> Iterator[Piece]:
        """Yield how a text goes on."""


@dataclass(slots=True)
class Conversation:
    """Questions and answers in turn.

    A model that was never taught turns (a pretraining run) is given the text itself to go on from.
    """

    engine: Answering
    sampling: Sampling = field(default_factory=Sampling)
    system: str = ""
    said: list[Message] = field(default_factory=list)
    """Questions and answers, all of them."""
    forgotten: int = 0
    """Messages of `said` that no longer fit the model's context and are not sent."""

    def ask(self, question: str) -> Generator[Piece, None, None]:
        """Yield the answer as it comes; what has come is kept when the caller leaves.

        The oldest turns are no longer sent once they do not fit. Raises AnswerError, and InputError
        when the question alone is too long.
        """
        self.said.append({"role": "user", "content": question})
        answer: list[str] = []
        try:
            for piece in self._stream():
                answer.append(piece.text)
                yield piece
        finally:
            self._keep("".join(answer))

    def _keep(self, answer: str) -> None:
        if answer:
            self.said.append({"role": "assistant", "content": answer})
        else:
            self.said.pop()

    def _stream(self) -> Iterator[Piece]:
        while True:
            try:
                yield from self._request()
                return
            except AnswerError as error:  # it comes before the first piece
                if not error.too_long:
                    raise
                self._forget()

    def _forget(self) -> None:
        """Send one question and its answer fewer from now on."""
        if self.forgotten + 2 >= len(self.said):
            raise InputError(
                f"the question is longer than the {self.engine.context:,} tokens of the context: "
                "shorten it, or start with a larger --context"
            )
        self.forgotten += 2

    def _request(self) -> Iterator[Piece]:
        sent, body = self.said[self.forgotten :], self.sampling.body()
        if self.engine.chats:
            first = [{"role": "system", "content": self.system}] if self.system else []
            return self.engine.chat([*first, *sent], **body)
        text = [self.system, *(message["content"] for message in sent)]
        return self.engine.complete("\n".join(filter(None, text)), **body)

    def reset(self) -> None:
        """Begin anew."""
        self.said.clear()
        self.forgotten = 0

    def save(self, path: Path) -> None:
        """Write the conversation as one line of JSON, as OpenAI's fine-tuning files hold it."""
        first = [{"role": "system", "content": self.system}] if self.system else []
        record = {"messages": [*first, *self.said]}
        write_text(path, json.dumps(record, ensure_ascii=False) + "\n")


def answer_record(engine: Answering, question: str, pieces: list[Piece]) -> dict[str, Any]:
    """Return one question and its answer as the JSON document's body."""
    last = pieces[-1] if pieces else Piece()
    return {
        "model": engine.name,
        "question": question,
        "answer": "".join(piece.text for piece in pieces),
        "finish": next((piece.finish for piece in pieces if piece.finish), "stop"),
        "tokens": last.tokens,
        "tokens_per_s": last.tokens_per_s,
    }
