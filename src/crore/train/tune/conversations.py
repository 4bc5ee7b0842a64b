"""Conversations and preferences: read from JSONL, or made from what any Python brings along."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

from crore.errors import InputError, shown
from crore.io import read_text

Message = dict[str, str]
"""`role` (system, user or assistant) and `content`."""
Conversation = tuple[Message, ...]
ROLES: Final = {
    "system": "system", "user": "user", "human": "user", "assistant": "assistant",
    "gpt": "assistant", "model": "assistant",
}  # fmt: skip
"""As OpenAI's and ShareGPT's files name them."""
HELD_OUT: Final = 20
"""One in so many questions is kept for evaluation, by a hash of its words."""
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True, slots=True)
class Pair:
    """Two answers to one question."""

    prompt: Conversation
    chosen: str
    rejected: str


def read_conversations(path: Path) -> list[Conversation]:
    """Read one conversation a line: OpenAI's `messages`, or ShareGPT's `conversations`.

    Raises InputError, with the line, for one that is neither or has no answer.
    """
    return [_conversation(record, where) for where, record in _records(path)]


def read_pairs(path: Path) -> list[Pair]:
    """Read one preference a line: `prompt` (text or messages), `chosen` and `rejected` (texts).

    Raises InputError, with the line, for one that lacks a key.
    """
    return [_pair(record, where) for where, record in _records(path)]


def split(items: Sequence[T], question: Mapping[int, str]) -> tuple[list[T], list[T]]:
    """Return items to train on and to evaluate on; the same question is on one side alone.

    What is evaluated on is in an order of its own, so that its beginning is like the whole.
    """
    learned: list[T] = []
    held: list[tuple[bytes, T]] = []
    for index, item in enumerate(items):
        digest = hashlib.sha256(question[index].encode()).digest()
        if int.from_bytes(digest[:4]) % HELD_OUT:
            learned.append(item)
        else:
            held.append((digest[4:], item))
    return learned, [item for _, item in sorted(held, key=lambda it: it[0])]


def question_of(conversation: Iterable[Message]) -> str:
    """Return what was asked first, as it is compared: no case, no space at the ends."""
    first = next((m["content"] for m in conversation if m["role"] == "user"), "")
    return " ".join(first.lower().split())


def _records(path: Path) -> list[tuple[str, Any]]:
    found = []
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        if not line.strip():
            continue
        where = f"{path.name[-60:]} line {number}"
        try:
            found.append((where, json.loads(line)))
        except ValueError as error:
            raise InputError(f"{where} is no JSON: one object a line") from error
    if not found:
        raise InputError(f"{path.name[-60:]} holds no line: one JSON object a line")
    return found


def _conversation(record: Any, where: str) -> Conversation:
    if isinstance(record, Mapping) and isinstance(record.get("messages"), list):
        said = _messages(record["messages"], where, "role", "content")
    elif isinstance(record, Mapping) and isinstance(record.get("conversations"), list):
        said = _messages(record["conversations"], where, "from", "value")
    else:
        raise InputError(
            f'{where} holds neither "messages" (role, content) nor "conversations" (from, value)'
        )
    if not any(message["role"] == "assistant" for message in said):
        raise InputError(f"{where} has no answer: a message of role assistant")
    return said


def _messages(listed: list[Any], where: str, role: str, content: str) -> Conversation:
    said = []
    for message in listed:
        found = message if isinstance(message, Mapping) else {}
        who, text = found.get(role), found.get(content)
        if not isinstance(who, str) or who not in ROLES:
            raise InputError(f"{where}: {role} {shown(who)}; one of: {', '.join(ROLES)}")
        if not isinstance(text, str):
            raise InputError(f"{where}: {content} must be text, not {shown(text)}")
        said.append({"role": ROLES[who], "content": text})
    return tuple(said)


def _pair(record: Any, where: str) -> Pair:
    found = record if isinstance(record, Mapping) else {}
    prompt = found.get("prompt")
    if isinstance(prompt, str):
        said: Conversation = ({"role": "user", "content": prompt},)
    elif isinstance(prompt, list):
        said = _messages(prompt, where, "role", "content")
    else:
        raise InputError(f'{where} has no "prompt": a text, or messages')
    answers = [found.get(key) for key in ("chosen", "rejected")]
    if not all(isinstance(answer, str) and answer for answer in answers):
        raise InputError(f'{where} needs "chosen" and "rejected", each a text')
    return Pair(prompt=said, chosen=str(answers[0]), rejected=str(answers[1]))
