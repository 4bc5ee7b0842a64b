"""What the world that leads an island tells its other worlds of a turn, as bytes of a fixed size.

They travel as all else does between worlds: as a tensor that is a sum over them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

import torch
from torch import Tensor

from crore.train.islands.gate import Limits

LEAST_BYTES: Final = 1 << 12
NUMBER_BYTES: Final = 24
"""Of a number, at most."""


def letter_bytes(islands: int, fragments: int) -> int:
    """Return the size of the letters of a fleet.

    Most of it is what the gate of each fragment remembers of each island.
    """
    gate = Limits().window * (islands + 1) * NUMBER_BYTES
    return LEAST_BYTES + fragments * gate + 2 * islands * NUMBER_BYTES


def letter_of(told: Mapping[str, Any], size: int) -> Tensor:
    """Return a record as bytes, filled up with zeros to a size."""
    text = json.dumps(told).encode()
    assert len(text) < size, len(text)
    letter = torch.zeros(size, dtype=torch.uint8)
    letter[: len(text)] = torch.frombuffer(bytearray(text), dtype=torch.uint8)
    return letter


def read(letter: Tensor) -> dict[str, Any] | None:
    """Return the record of a letter; None where it did not arrive."""
    text = bytes(letter.tolist()).rstrip(b"\0")
    try:
        found: dict[str, Any] = json.loads(text)
    except ValueError:
        return None
    return found
