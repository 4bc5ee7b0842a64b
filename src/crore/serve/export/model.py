"""What an export is given: a shape, a way to read each tensor, and a tokenizer's files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from crore.catalog.types import ModelSpec

Tell = Callable[[int, int], None]
"""Told the tensors written so far, and all."""


def silent(done: int, of_all: int) -> None:
    """Tell nobody."""
    del done, of_all


@dataclass(frozen=True, kw_only=True, slots=True)
class Model:
    """A model that is read tensor by tensor."""

    spec: ModelSpec
    names: tuple[str, ...]
    """Of all its tensors, in the order in which they are best read."""
    read: Callable[[str], Tensor]
    """Returns a whole tensor in main memory; called once for each name, and twice for a tied
    embedding where a layout has no ties."""
    context: int
    """Tokens it was trained for."""
    tokenizer: Path
    """Folder with `tokenizer.json` or `tokenizer.model`, and what else belongs to it."""
    end_of_text: str = ""
    """The token that ends a text, where the tokenizer's files do not say."""
