"""Placeholder."""
from pathlib import Path

from crore.catalog.types import ModelSpec


def read_hf_config(path: Path) -> ModelSpec:
    """Return."""
    raise NotImplementedError
