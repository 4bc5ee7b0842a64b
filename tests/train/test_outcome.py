"""How a run ended, in words and exit codes."""

from __future__ import annotations

import json
import signal

import pytest

from crore.train.outcome import Outcome, how_lost, leave_word

GLOO = (
    "RuntimeError: [/w/gloo/transport/tcp/pair.cc:553] Connection closed by peer [127.0.0.1]:41.\n"
    "more"
)


def test_a_batch_system_reads_0_and_a_shell_130():
    assert Outcome.asked(signal.SIGTERM).exit_code == 0
    assert Outcome.asked(signal.SIGINT).exit_code == 130


@pytest.mark.parametrize(
    ("rank", "codes", "word", "said"),
    [
        (1, [-15, -9], "Signal 9 (SIGKILL) received", "rank 1 was killed by SIGKILL"),
        (0, [1, -9, -15], {"message": GLOO}, "rank 1 was killed by SIGKILL"),
        (0, [1, -15], {"message": GLOO},
         "rank 0 ended with 1 (RuntimeError: Connection closed by peer [127.0.0.1]:41.)"),
        (1, [0, 1], "", "rank 1 ended with 1 ()"),
        (0, [75, -9], {"message": "hung: rank 1 hung: no sign"}, "rank 1 hung: no sign"),
    ],
)  # fmt: skip
def test_the_rank_that_was_lost_first_is_named(rank, codes, word, said):
    assert how_lost(rank, codes, word) == said


def test_a_word_is_left_for_our_own_launcher_alone(tmp_path, monkeypatch):
    path = tmp_path / "error.json"
    monkeypatch.delenv("TORCHELASTIC_ERROR_FILE", raising=False)
    assert not leave_word("rank 1 hung")
    monkeypatch.setenv("TORCHELASTIC_ERROR_FILE", str(path))
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    assert not leave_word("rank 1 hung")
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "crore-42")
    assert leave_word("rank 1 hung")
    message = json.loads(path.read_text())["message"]
    assert how_lost(0, [75], message) == "rank 1 hung"
