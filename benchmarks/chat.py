"""Tokens a second of `crore chat` over those of llama.cpp used directly, in turn in one process.

Run: python -m benchmarks.chat [FILE.gguf]. The default is the packaged SmolLM2-135M-Instruct.
Both sides answer the same question with the same seed, and time themselves from the first piece to
the last: process CPU time with one engine thread, which other work on the machine hardly moves, and
wall time.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

from crore.serve.chat import Conversation, Sampling
from crore.serve.engine import Engine, EngineSettings, Piece, start
from crore.serve.models import find_model

ROUNDS = 9
TOKENS = 128
QUESTION = "Tell me about the sea."


def direct(engine: Engine) -> tuple[int, float, float]:
    """Return tokens, wall and CPU seconds of one answer, taken from llama.cpp's callback."""
    marks: list[tuple[float, float]] = []
    end: list[int] = []

    def each(chunk: dict[str, object]) -> None:
        marks.append((time.perf_counter(), time.process_time()))
        if usage := chunk.get("usage"):
            assert isinstance(usage, dict)
            end.append(usage["completion_tokens"])

    body = {
        "messages": [{"role": "user", "content": QUESTION}], "max_tokens": TOKENS, "seed": 1,
        "temperature": 0.7, "ignore_eos": True, "stream": True,
        "stream_options": {"include_usage": True},
    }  # fmt: skip
    engine.server.handle_chat_completions(body, each)
    return _between(end[0], marks)


def through_chat(engine: Engine) -> tuple[int, float, float]:
    """Return the same of one answer of a conversation, written to a terminal's stand-in."""
    talk = Conversation(engine=Endless(engine), sampling=Sampling(max_tokens=TOKENS, seed=1))
    marks: list[tuple[float, float]] = []
    tokens = 0
    with open("/dev/null", "w", encoding="utf-8") as nowhere:  # noqa: PTH123
        for piece in talk.ask(QUESTION):
            print(piece.text, end="", file=nowhere, flush=True)
            marks.append((time.perf_counter(), time.process_time()))
            tokens = piece.tokens or tokens
    return _between(tokens, marks)


class Endless:
    """An engine whose answers go on to the last token, so that both sides make as many."""

    def __init__(self, engine: Engine) -> None:
        self._engine, self.name = engine, engine.name

    @property
    def chats(self) -> bool:
        """Whether the model was taught turns."""
        return self._engine.chats

    @property
    def context(self) -> int:
        """Tokens of one conversation."""
        return self._engine.context

    def chat(self, messages: list[dict[str, str]], **sampling: Any) -> Iterator[Piece]:
        """Yield the answer."""
        return self._engine.chat(messages, ignore_eos=True, **sampling)

    def complete(self, text: str, **sampling: Any) -> Iterator[Piece]:
        """Yield how the text goes on."""
        return self._engine.complete(text, ignore_eos=True, **sampling)


def _between(tokens: int, marks: list[tuple[float, float]]) -> tuple[int, float, float]:
    (wall, cpu), (wall_end, cpu_end) = marks[0], marks[-1]
    return tokens - 1, wall_end - wall, cpu_end - cpu


def main() -> None:
    """Measure in turn and print the medians."""
    found = find_model(sys.argv[1] if len(sys.argv) > 1 else None)
    engine = start(EngineSettings(path=found.path, threads=1), found.name)
    sides: dict[str, Callable[[Engine], tuple[int, float, float]]] = {
        "direct": direct, "crore chat": through_chat,
    }  # fmt: skip
    rates: dict[str, list[tuple[float, float]]] = {side: [] for side in sides}
    for answer in sides.values():  # the prompt's state is cached from here on, on both sides
        answer(engine)
    for turn in range(ROUNDS):
        for side in list(sides)[:: 1 if turn % 2 else -1]:
            tokens, wall_s, cpu_s = sides[side](engine)
            rates[side].append((tokens / wall_s, tokens / cpu_s))
    engine.close()
    print(f"{found.name}, {TOKENS} tokens, 1 thread, median of {ROUNDS} rounds in turn")
    medians = {side: [statistics.median(c) for c in zip(*got, strict=True)]
               for side, got in rates.items()}  # fmt: skip
    for side, (wall, cpu) in medians.items():
        print(f"{side:<11} {wall:6.1f} tokens/s  {cpu:6.1f} tokens/CPU s")
    wall, cpu = (a / b for a, b in zip(medians["crore chat"], medians["direct"], strict=True))
    print(f"ratio       {wall:6.3f} wall      {cpu:6.3f} CPU")


if __name__ == "__main__":
    main()
