"""Checkpoints as the loop makes them: told of once, and a failed one is no end of the run."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from crore.train.checkpoint import Checkpoints, SaveFailed
from crore.train.hang import Beat
from crore.train.records import Checkpoint
from crore.train.saving import SAVE_S, Saving


class Heard:
    """What a run is told of its checkpoints."""

    def __init__(self) -> None:
        self.events: list[tuple[str, str]] = []
        self.wrote: list[Checkpoint] = []

    def event(self, what: str, message: str) -> None:
        self.events.append((what, message))


@pytest.fixture
def made(tmp_path: Path):
    """Return savings, what they say, and the names of what came before the write in order."""
    order: list[str] = []
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    saving = Saving(checkpoints, tmp_path, Beat(), sync=lambda: order.append("sync"))
    return saving, Heard(), order


def weights(value: float) -> dict[str, torch.Tensor]:
    return {"w": torch.full((3, 2), float(value))}


def test_a_checkpoint_is_told_once_with_where_and_how_long(made, tmp_path):
    saving, heard, order = made
    saving.begin(4, weights(1.5), {"place": 4})
    assert order == ["sync"]  # the log is on the disk before a checkpoint that it tells of
    assert saving.kept == 4
    assert heard.wrote == []
    for _ in range(2):
        saving.finish(heard.event, heard.wrote.append)
    (told,) = heard.wrote
    assert (told.step, told.path) == (4, "checkpoints/step-00000004")
    found = [it.stat().st_size for it in (tmp_path / told.path).rglob("*") if it.is_file()]
    assert told.bytes == sum(found) > 3 * 2 * 4
    assert 0 < told.blocked_s <= told.write_s
    assert heard.events == []


def test_what_is_copied_at_the_begin_is_what_is_saved(made):
    saving, heard, _ = made
    tensors = weights(1.0)
    saving.begin(1, tensors, {"n": 1})
    tensors["w"].fill_(9.0)
    saving.finish(heard.event, heard.wrote.append)
    facts = saving.restore(tensors)
    assert facts is not None
    assert (facts.step, facts.values) == (1, {"n": 1})
    assert torch.equal(tensors["w"], weights(1.0)["w"])


def test_a_roll_back_is_to_a_step_of_at_most_so_many_and_for_good(made):
    saving, heard, _ = made
    for step in (2, 5, 9):
        saving.begin(step, weights(step), {})
        saving.finish(heard.event, heard.wrote.append)
    tensors = weights(0.0)
    facts = saving.restore(tensors, at_most=7)
    assert facts is not None
    assert facts.step == saving.kept == 5
    assert tensors["w"].unique().tolist() == [5.0]
    again = saving.restore(tensors)
    assert again is not None
    assert again.step == 5  # 9 belongs to a history that is taken back
    assert saving.restore(tensors, at_most=1) is None
    assert saving.kept == 5


@pytest.mark.parametrize(
    ("why", "what"),
    [
        ("checkpoint 3 not written: no space left on device; 2 kept", "disk full"),
        ("checkpoint 3 not written: disk quota exceeded; 2 kept", "disk full"),
        ("checkpoint 3 not written: file too large; 2 kept", "disk full"),
        ("checkpoint 3 not written: permission denied; 2 kept", "note"),
    ],
)
def test_one_that_fails_is_told_and_the_last_step_counts_as_not_saved(made, monkeypatch, why, what):
    saving, heard, _ = made

    def fails() -> None:
        raise SaveFailed(why)

    saving.begin(3, weights(1.0), {})
    saving.checkpoints.wait()
    monkeypatch.setattr(saving.checkpoints, "wait", fails)
    saving.finish(heard.event, heard.wrote.append)
    assert heard.events == [(what, why)]
    assert heard.wrote == []
    assert saving.kept is None


def test_a_folder_that_cannot_be_written_is_no_end_of_the_run(made, tmp_path):
    saving, heard, _ = made
    (tmp_path / "checkpoints").write_text("a file stands where the folder should")
    saving.begin(3, weights(1.0), {})
    saving.finish(heard.event, heard.wrote.append)
    ((what, why),) = heard.events
    assert what == "note"
    assert why.startswith("checkpoint 3 not written: ")
    assert saving.kept is None


def test_a_damaged_checkpoint_is_told_as_such(made, tmp_path):
    saving, heard, _ = made
    for step in (1, 2):
        saving.begin(step, weights(step), {})
        saving.finish(heard.event, heard.wrote.append)
    folder = tmp_path / "checkpoints" / "step-00000002"
    largest = max(folder.rglob("*"), key=lambda path: path.stat().st_size if path.is_file() else 0)
    content = bytearray(largest.read_bytes())
    content[len(content) // 2] ^= 1
    largest.write_bytes(bytes(content))
    facts = saving.restore(weights(0.0))
    assert facts is not None
    assert facts.step == saving.kept == 1
    saving.tell_messages(heard.event)
    ((what, why),) = heard.events
    assert what == "damaged checkpoint"
    assert why.startswith("checkpoint 2 is damaged")


def test_one_that_is_gone_when_it_is_done_is_not_told(made, monkeypatch):
    saving, heard, _ = made
    saving.begin(1, weights(1.0), {})
    monkeypatch.setattr(saving.checkpoints, "path", lambda _: None)
    saving.finish(heard.event, heard.wrote.append)
    assert heard.wrote == heard.events == []


def test_the_watchdog_gives_a_checkpoint_more_time(made):
    saving, heard, _ = made
    beat = saving._beat
    saving.begin(1, weights(1.0), {})
    assert (beat.name, beat.allowed_s) == ("checkpoint", SAVE_S)
    beat.phase("optimizer")
    saving.finish(heard.event, heard.wrote.append)
    assert beat.name == "checkpoint"
