"""Conversations as tokens: the model's own chat template, and which tokens are answers.

S: tokens of a conversation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from crore.errors import InputError
from crore.train.tune.conversations import Conversation, Pair

IGNORED: Final = -100
"""Label of a token that is no answer, as torch's cross-entropy leaves out."""
PLAIN: Final = (
    "{% for message in messages %}"
    "{% if message['role'] == 'user' %}Question: {{ message['content'] }}\n"
    "{% elif message['role'] == 'assistant' %}Answer: {{ message['content'] }}{{ eos_token }}\n"
    "{% else %}{{ message['content'] }}\n{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}Answer:{% endif %}"
)
"""For a model that has learned no template: words alone, which any tokenizer has."""
Tokens = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, slots=True)
class Example:
    """A conversation as tokens."""

    tokens: Tokens
    """[S]."""
    labels: Tokens
    """[S]: the tokens of answers, IGNORED elsewhere."""

    def __len__(self) -> int:
        """Return its tokens."""
        return len(self.tokens)


class Template:
    """Writes conversations as a model reads them."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        if not tokenizer.chat_template:
            if not tokenizer.eos_token:
                raise InputError("the model's tokenizer names no end-of-text token: no answer ends")
            tokenizer.chat_template = PLAIN

    @property
    def text(self) -> str:
        """The template, in Jinja."""
        return str(self._tokenizer.chat_template)

    def example(self, conversation: Conversation) -> Example:
        """Return a conversation as tokens; each answer is cut where the model would begin it."""
        tokens: list[int] = []
        labels: list[int] = []
        done = ""
        for index, message in enumerate(conversation):
            if message["role"] != "assistant":
                continue
            before = self._written(conversation[:index], begin=True)
            after = self._written(conversation[: index + 1], begin=False)
            for text, answer in ((before[len(done) :], False), (after[len(before) :], True)):
                ids = self._tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
                tokens += ids
                labels += ids if answer else [IGNORED] * len(ids)
            done = after
        return Example(tokens=np.array(tokens, np.int64), labels=np.array(labels, np.int64))

    def both(self, pair: Pair) -> tuple[Example, Example]:
        """Return the chosen and the rejected answer, each after the prompt."""
        chosen, rejected = (
            self.example((*pair.prompt, {"role": "assistant", "content": text}))
            for text in (pair.chosen, pair.rejected)
        )
        return chosen, rejected

    def _written(self, messages: Sequence[Any], *, begin: bool) -> str:
        return str(
            self._tokenizer.apply_chat_template(
                list(messages), tokenize=False, add_generation_prompt=begin
            )
        )


def tokenizer_of(folder: Path) -> Any:
    """Return the tokenizer of a model's folder."""
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(folder)
    except (OSError, ValueError, KeyError) as error:
        first = str(error).strip().splitlines()[0][:100]
        raise InputError(f"no tokenizer in {str(folder)[-60:]}: {first}") from error
