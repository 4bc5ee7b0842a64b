"""Text in, samples out: sources, tokenizer, token shards, and the order of samples."""

from __future__ import annotations

from crore.train.data.dataset import Dataset
from crore.train.data.prepare import prepare
from crore.train.data.sources import Source, parse_sources

__all__ = ["Dataset", "Source", "parse_sources", "prepare"]
