"""`crore lighthouse` says where it is, and ends when asked."""

from __future__ import annotations

import signal
import socket
import subprocess
from collections.abc import Iterator
from importlib.util import find_spec

import pytest
from tests.train.tiny import crore

from crore.cli import run

pytestmark = pytest.mark.skipif(find_spec("torchft") is None, reason="needs crore[ft]")


@pytest.fixture
def lit() -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Return a lighthouse on a free port of this machine, and what it said first."""
    line = crore("lighthouse", "--port", "0", "--host", "127.0.0.1", "--min-worlds", "2")
    process = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield process, process.stdout.readline().strip()
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_prints_its_address_and_ends_with_0_when_asked(lit, number):
    process, said = lit
    host, _, port = said.removeprefix("http://").rpartition(":")
    assert host == "127.0.0.1"
    with socket.create_connection((host, int(port)), timeout=120):
        pass  # somebody is there
    assert process.poll() is None
    process.send_signal(number)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0
    assert (out, err) == ("", "")
    with pytest.raises(OSError, match="refused"):
        socket.create_connection((host, int(port)), timeout=120)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--port", "70000"), "Invalid value for '--port'"),
        (("--port", "-1"), "Invalid value for '--port'"),
        (("--min-worlds", "0"), "Invalid value for '--min-worlds'"),
        (("--grace", "-1"), "Invalid value for '--grace'"),
    ],
)
def test_what_makes_no_sense_is_one_line(capsys, words, said):
    assert run(["lighthouse", *words]) == 2
    err = capsys.readouterr().err
    assert said in err
    assert len(err.splitlines()) == 1
