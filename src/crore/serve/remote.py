"""A model behind an OpenAI-compatible server, as a conversation asks it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from crore.errors import CroreError
from crore.io import read_text
from crore.serve.engine import AnswerError, Piece, piece_of
from crore.serve.server import Behind

SILENT_S: Final = 600.0
"""Seconds without a word after which an answer is given up."""
POSITIONS: Final = ("max_position_embeddings", "model_max_length")
"""Keys of a `config.json` that say how many tokens a model knows."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Remote:
    """A model of a Hugging Face folder that answers."""

    behind: Behind
    chats: bool
    """Whether the model was taught turns."""
    context: int
    """Tokens of one conversation that the model knows; 0 unknown."""

    @property
    def name(self) -> str:
        """Of the model."""
        return self.behind.name

    def chat(self, messages: list[dict[str, str]], **sampling: Any) -> Iterator[Piece]:
        """Yield the answer to a conversation; leaving the loop stops it."""
        return self._stream("/v1/chat/completions", {"messages": messages, **sampling})

    def complete(self, text: str, **sampling: Any) -> Iterator[Piece]:
        """Yield how the text goes on; leaving the loop stops it."""
        return self._stream("/v1/completions", {"prompt": text, **sampling})

    def _stream(self, path: str, body: dict[str, Any]) -> Iterator[Piece]:
        import httpx2

        body |= {"model": self.behind.model, "stream": True}
        body |= {"stream_options": {"include_usage": True}}
        headers = {"authorization": f"Bearer {self.behind.key}"}
        try:
            with (
                httpx2.Client(trust_env=False, timeout=SILENT_S) as client,
                client.stream(
                    "POST", self.behind.address + path, json=body, headers=headers
                ) as answer,
            ):
                if answer.status_code != 200:
                    raise _refusal(answer.read())
                yield from _pieces(answer.iter_lines())
        except httpx2.HTTPError as error:
            raise AnswerError({"message": type(error).__name__}) from error


def _pieces(lines: Iterator[str]) -> Iterator[Piece]:
    """Yield what server-sent events bring; the speed is of this clock, from the first piece on."""
    began_s = 0.0
    for line in lines:
        text = line.removeprefix("data:").strip()
        if not line.startswith("data:") or text == "[DONE]":
            continue
        piece = piece_of(json.loads(text))
        began_s = began_s or (time.perf_counter() if piece.text else 0.0)
        taken_s = time.perf_counter() - began_s
        if piece.tokens > 1 and began_s and taken_s > 0:
            piece = replace(piece, tokens_per_s=(piece.tokens - 1) / taken_s)
        yield piece


def _refusal(body: bytes) -> CroreError:
    """Return what a server says that will not answer."""
    try:
        told = json.loads(body)
    except ValueError:
        told = body.decode(errors="replace")
    while isinstance(told, Mapping):  # each server wraps its words in keys of its own
        told = next((told[key] for key in ("error", "message", "detail") if key in told), str(told))
    return AnswerError({"message": str(told)})


def remote(behind: Behind, folder: Path) -> Remote:
    """Return a served Hugging Face folder as something to talk to."""
    config = json.loads(read_text(folder / "config.json"))
    said = folder / "tokenizer_config.json"
    told = json.loads(read_text(said)) if said.is_file() else {}
    taught = (folder / "chat_template.jinja").is_file() or "chat_template" in told
    context = next((int(config[key]) for key in POSITIONS if key in config), 0)
    return Remote(behind=behind, chats=taught, context=context)
