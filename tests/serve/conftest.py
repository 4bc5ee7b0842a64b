"""Models to serve, made here: of a few thousand random weights, or the one that comes packaged."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.serve.served import Served, served
from tests.serve.tiny_gguf import write_tiny

from crore.serve.engine import EngineSettings, start


@pytest.fixture(scope="session")
def tiny(tmp_path_factory) -> Path:
    """Return a model with a chat template and a context of 256 tokens."""
    return write_tiny(tmp_path_factory.mktemp("tiny") / "tiny.gguf")


@pytest.fixture(scope="session")
def pretrained(tmp_path_factory) -> Path:
    """Return a model without a chat template."""
    return write_tiny(tmp_path_factory.mktemp("pretrained") / "base.gguf", chats=False)


@pytest.fixture(scope="module")
def engine(tiny):
    made = start(EngineSettings(path=tiny, threads=1))
    yield made
    made.close()


@pytest.fixture(scope="module")
def server(tiny) -> Iterator[Served]:
    """Return a running `crore serve`, asking for a key, with small limits."""
    flags = ["--api-key", "right", "--parallel", "2", "--concurrency", "4", "--max-tokens", "200"]
    with served(str(tiny), *flags, "--threads", "1") as running:
        yield running
