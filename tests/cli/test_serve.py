"""`crore serve` refuses in one line what it will not or cannot do."""

from __future__ import annotations

import socket

import pytest
from tests.serve.tiny_gguf import write_tiny

from crore.cli import run


@pytest.fixture
def refused(capsys, tmp_path, monkeypatch):
    """Return the one line that `crore serve` of a model with some words says."""
    monkeypatch.delenv("CRORE_API_KEY", raising=False)
    tiny = str(write_tiny(tmp_path / "tiny.gguf"))

    def call(*words: str) -> str:
        assert run(["serve", tiny, "--threads", "1", *words]) == 2
        printed = capsys.readouterr()
        assert printed.out == ""
        assert printed.err.count("\n") == 1
        return str(printed.err)

    return call


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.7"])  # noqa: S104
def test_beyond_loopback_it_wants_a_key(refused, host):
    assert f"--host {host} can be reached by others: give --api-key" in refused("--host", host)


def test_what_it_cannot_do_is_one_line(refused):
    assert "--host must be an IP address" in refused("--host", "example.org")
    assert "unknown engine 'vlm'; did you mean vllm?" in refused("--engine", "vlm")
    assert "requests must be at least 1, not 0" in refused("--concurrency", "0")
    assert "slots must be a whole number from 1" in refused("--parallel", "0")
    assert "--api-key must be printable ASCII" in refused("--api-key", "schlüssel")
    assert "cannot listen on 192.0.2.7 port" in refused("--host", "192.0.2.7", "--api-key", "k")


def test_a_port_that_is_taken_is_said(refused):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert f"cannot listen on 127.0.0.1 port {port}: Address already" in refused("--port", port)
