"""A tenth of Baichuan-13B goes through a small disk and a small memory, and answers."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TABLE = 64_000 * 1536
"""Numbers of the largest tensor, the embedding."""
INTERPRETER_BYTES = 600_000_000
"""Python with torch, NumPy and the libraries, before anything is read."""


@pytest.mark.drill
@pytest.mark.parametrize(("dtype", "bits"), [("q4_0", 4.5), ("q8_0", 8.5)])
def test_a_checkpoint_is_converted_file_by_file_and_answers(dtype, bits, tmp_path):
    words = ["--tenth", "--dtype", dtype, "--context", "512", "4096", "--folder", tmp_path]
    command = [sys.executable, "-m", "benchmarks.baichuan", *words]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=900, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["parameters"] == pytest.approx(13_264_901_120 / 10, rel=0.01)
    # The head takes 8.5 bits beside 4.5; names, vocabulary and vectors take little.
    packed = (found["parameters"] - TABLE) * bits / 8 + TABLE * 8.5 / 8
    assert found["gguf_bytes"] == pytest.approx(packed, rel=0.01)
    assert found["files"] > 10
    assert found["files_left"] == 0
    assert found["disk_bytes"] < found["gguf_bytes"] + 1.1 * found["file_bytes"]
    # The largest tensor in 16 and 32 bits, and what it is packed into, twice.
    held = TABLE * (2 + 4 + 2 * bits / 8)
    assert found["memory_bytes"] < INTERPRETER_BYTES + found["file_bytes"] + held
    assert [answer["context"] for answer in found["answers"]] == [512, 4096]
    for answer in found["answers"]:
        assert answer["tokens"] == 64
        assert abs(answer["bytes_off"]) < 0.08, answer
    assert not list(tmp_path.iterdir())
