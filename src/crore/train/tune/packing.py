"""Rows of several conversations, none of which sees another.

Positions begin at 0 in each conversation, by which transformers' mask tells them apart.
R: rows, S: tokens of a row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from crore.train.tune.template import IGNORED, Example, Tokens


@dataclass(frozen=True, kw_only=True, slots=True)
class Rows:
    """Packed rows, each [R, S]."""

    tokens: Tokens
    labels: Tokens
    positions: Tokens

    def __len__(self) -> int:
        """Return how many."""
        return len(self.tokens)

    def of(self, index: Sequence[int] | Tokens) -> Rows:
        """Return some of the rows, up to the last answer in them: nothing after it counts."""
        own = np.asarray(index, np.int64)
        answers = np.flatnonzero((self.labels[own] != IGNORED).any(0))
        end = int(answers[-1]) + 1 if len(answers) else 1
        return Rows(
            tokens=self.tokens[own, :end], labels=self.labels[own, :end],
            positions=self.positions[own, :end],
        )  # fmt: skip

    @property
    def answers(self) -> int:
        """Tokens that are predicted: of answers, and not the first of their conversation."""
        return int(np.sum((self.labels != IGNORED) & (self.positions > 0)))


def pack(examples: Sequence[Example], seq_len: int, pad: int) -> Rows:
    """Lay examples in rows of `seq_len` tokens, the longest first, each where it first fits.

    What is longer than a row is left out. What fills a row up is a conversation of its own.
    """
    fits = [example for example in examples if 1 < len(example) <= seq_len]
    rows: list[list[Example]] = []
    room: list[int] = []
    for example in sorted(fits, key=len, reverse=True):
        at = next((k for k, left in enumerate(room) if left >= len(example)), len(rows))
        if at == len(rows):
            rows.append([])
            room.append(seq_len)
        rows[at].append(example)
        room[at] -= len(example)
    return stack(rows, seq_len, pad)


def stack(rows: Sequence[Sequence[Example]], seq_len: int, pad: int) -> Rows:
    """Return rows of the given examples; each row's must fit."""
    shape = (len(rows), seq_len)
    tokens, labels = np.full(shape, pad, np.int64), np.full(shape, IGNORED, np.int64)
    positions = np.zeros(shape, np.int64)
    for k, row in enumerate(rows):
        start = 0
        for example in row:
            here = slice(start, start + len(example))
            tokens[k, here], labels[k, here] = example.tokens, example.labels
            positions[k, here] = np.arange(len(example))
            start += len(example)
        positions[k, start:] = np.arange(seq_len - start)
    return Rows(tokens=tokens, labels=labels, positions=positions)
