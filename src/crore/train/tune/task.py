"""What is learned: answers, or which of two answers is liked better."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from crore.errors import InputError
from crore.train.tune.conversations import Conversation, Pair, question_of, split
from crore.train.tune.losses import answer_nats, log_probs, preference
from crore.train.tune.packing import Rows, pack, stack
from crore.train.tune.settings import Tuning
from crore.train.tune.template import Example, Template, Tokens

ROWS_AT_ONCE: Final = 4
"""A forward pass takes so many rows; a step adds up several."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Score:
    """A model on what is held out."""

    loss: float
    """Of answers in nats a token; of preferences -log σ of the margin."""
    margin: float | None = None
    """Of preferences: how much more the chosen answers are liked than at the beginning, nats."""
    right: float | None = None
    """Share of the preferences whose chosen answer is the likelier one."""


class Task(Protocol):
    """Data with a loss."""

    count: int
    """Items to train on: rows, or pairs."""
    fingerprint: str
    """Hash of the items."""

    def prepare(self, model: Any) -> None:
        """Ask the model, before it is trained, what has to be known of it; as in `evaluate`."""

    def backward(self, model: Any, items: Tokens) -> float:
        """Add up the gradients of some items; return their loss."""

    def evaluate(self, model: Any) -> Score:
        """Return how the model, in evaluation and without gradients, does on what is held out."""

    def state(self) -> dict[str, Tensor]:
        """Return what `prepare` found."""

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Take up what `prepare` found before."""


TaskOf = Callable[[Any], Task]
"""Makes the task of a tokenizer."""


class Answers:
    """Supervised fine-tuning: the answers of conversations, packed in rows."""

    def __init__(self, tokenizer: Any, told: Sequence[Conversation], tuning: Tuning) -> None:
        template = Template(tokenizer)
        asked = {k: question_of(c) for k, c in enumerate(told)}
        learned, held = split(told, asked)
        pad = _pad(tokenizer)
        self.rows = pack([template.example(c) for c in learned], tuning.seq_len, pad)
        kept = [template.example(c) for c in held]
        fits = [example for example in kept if len(example) <= tuning.seq_len]
        self.held = pack(fits[: tuning.evaluated], tuning.seq_len, pad)
        _check(len(self.rows), len(self.held), "conversations", tuning)
        self.count, self.fingerprint = len(self.rows), _hash(self.rows, self.held)

    def prepare(self, model: Any) -> None:
        """Nothing is asked."""

    def backward(self, model: Any, items: Tokens) -> float:
        """Add up gradients of the mean over the rows' answer tokens; return that, nats a token."""
        rows = self.rows.of(items)
        answers, nats = max(rows.answers, 1), 0.0
        for part in _parts(rows):
            loss = answer_nats(model, part) / answers
            loss.backward()
            nats += float(loss.detach())
        return nats

    def evaluate(self, model: Any) -> Score:
        """Return the mean over the held-out answers' tokens."""
        nats = sum(float(answer_nats(model, part)) for part in _parts(self.held))
        return Score(loss=nats / max(self.held.answers, 1))

    def state(self) -> dict[str, Tensor]:
        """Nothing was asked."""
        return {}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Nothing was asked."""


class Preferences:
    """Direct preference optimization (arXiv 2305.18290), against the model it begins with."""

    def __init__(self, tokenizer: Any, told: Sequence[Pair], tuning: Tuning) -> None:
        template, self.beta = Template(tokenizer), tuning.beta
        asked = {k: question_of(pair.prompt) for k, pair in enumerate(told)}
        sides = [
            [both for both in map(template.both, side) if max(map(len, both)) <= tuning.seq_len]
            for side in split(told, asked)
        ]
        sides[1] = sides[1][: tuning.evaluated]
        _check(len(sides[0]), len(sides[1]), "pairs", tuning)
        pad, self.count = _pad(tokenizer), len(sides[0])
        self.chosen, self.rejected = (_each(sides, k, tuning.seq_len, pad) for k in (0, 1))
        self.fingerprint = _hash(self.chosen, self.rejected)
        self.before = torch.zeros(len(self.chosen))

    def prepare(self, model: Any) -> None:
        """Ask by how much the model likes each chosen answer better than the rejected one."""
        found = [self._lead(model, part) for part in _slices(np.arange(len(self.chosen)))]
        self.before = torch.cat(found).cpu()

    def backward(self, model: Any, items: Tokens) -> float:
        """Add up gradients of the mean over the pairs; return that."""
        total = 0.0
        for part in _slices(items):
            loss = -functional.logsigmoid(self._margin(model, part)).sum() / len(items)
            loss.backward()
            total += float(loss.detach())
        return total

    def evaluate(self, model: Any) -> Score:
        """Return the loss, the mean margin and the share that is right on held-out pairs."""
        held = np.arange(self.count, len(self.chosen))
        leads = torch.cat([self._lead(model, part) for part in _slices(held)]).cpu()
        margins = preference(leads, self.before[held], self.beta)
        return Score(
            loss=float(-functional.logsigmoid(margins).mean()),
            margin=float(margins.mean()) / self.beta, right=float((leads > 0).float().mean()),
        )  # fmt: skip

    def _lead(self, model: Any, items: Tokens) -> Tensor:
        return log_probs(model, self.chosen.of(items)) - log_probs(model, self.rejected.of(items))

    def _margin(self, model: Any, items: Tokens) -> Tensor:
        lead = self._lead(model, items)
        return preference(lead, self.before[items].to(lead.device), self.beta)

    def state(self) -> dict[str, Tensor]:
        """Return what the model liked before."""
        return {"before": self.before}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Take that up."""
        self.before = state["before"]


def _each(sides: Sequence[Sequence[tuple[Example, Example]]], which: int, length: int, pad: int
          ) -> Rows:  # fmt: skip
    return stack([[both[which]] for side in sides for both in side], length, pad)


def _parts(rows: Rows) -> Iterator[Rows]:
    for part in _slices(np.arange(len(rows))):
        yield rows.of(part)


def _slices(items: Tokens) -> Iterator[Tokens]:
    for first in range(0, len(items), ROWS_AT_ONCE):
        yield items[first : first + ROWS_AT_ONCE]


def _pad(tokenizer: Any) -> int:
    found = tokenizer.pad_token_id
    return int(found if found is not None else tokenizer.eos_token_id or 0)


def _check(learned: int, held: int, what: str, tuning: Tuning) -> None:
    if not learned or not held:
        raise InputError(
            f"of these {what}, {learned} rows to learn and {held} to evaluate on are at most "
            f"{tuning.seq_len} tokens long: give more of them, or a longer --seq-len"
        )


def _hash(*rows: Rows) -> str:
    found = hashlib.sha256()
    for each in rows:
        for values in (each.tokens, each.labels, each.positions):
            found.update(values.tobytes())
    return found.hexdigest()
