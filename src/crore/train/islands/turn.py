"""A turn of the islands, as one rank sees it: what it sends, and what the meeting came to."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from crore.train.islands.exchange import Exchanged
from crore.train.peers import State


@dataclass(kw_only=True, slots=True)
class Sent:
    """What goes out in a turn."""

    fragment: int
    delta: Tensor
    tokens: int
    """Behind it."""
    until: int
    """Samples of all islands that were handed out before."""


@dataclass(kw_only=True, slots=True)
class Result:
    """What a meeting of the islands came to."""

    turn: int
    exchanged: Exchanged
    me: int
    sent: Sent
    sent_s: float
    islands: list[int]
    """Who was there, in the order of the exchange."""
    meeting: int
    """Its number; a turn that is taken anew after deaths has another."""
    until: int
    """Samples that had been handed out to any of them."""
    taken_up: State | None
    """The state of another island, which this one is behind."""
    brings: bool
    """Whether what this island has trained is new to the others."""
    ended: bool
    """Whether the run has ended without this island."""
