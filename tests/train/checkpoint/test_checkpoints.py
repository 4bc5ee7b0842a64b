"""Saving in the background, keeping the last few, going back."""

from __future__ import annotations

import hashlib
import json
import subprocess
import threading
import weakref
from collections import Counter
from unittest import mock

import pytest
import torch
import torch.distributed as dist
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.train.checkpoint.layouts import build, open_checkpoints, whole
from tests.train.gloo import run
from torch.distributed.tensor import DTensor

from crore import __version__
from crore.errors import InputError
from crore.train.checkpoint import Checkpoints, SaveFailed, folder, manifest, writing


def tensors(step):
    return {"model.w": torch.full((6, 4), float(step)), "model.b": torch.tensor([True, False])}


def save_all(checkpoints, *steps):
    for step in steps:
        checkpoints.save(step, tensors(step), {"step": step})
    checkpoints.wait()


def test_an_empty_or_absent_folder_holds_nothing(tmp_path):
    for path in (tmp_path, tmp_path / "absent"):
        checkpoints = Checkpoints(path)
        assert checkpoints.restore(tensors(0)) is None
        assert checkpoints.roll_back(tensors(0), 9) is None
        assert (checkpoints.steps(), checkpoints.poll()) == ([], [])
        checkpoints.wait()
    assert not (tmp_path / "absent").exists()


def test_the_last_k_are_kept(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=2)
    save_all(checkpoints, 1, 2, 30, 100_000_000)
    assert checkpoints.steps() == [30, 100_000_000]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000030", "step-100000000"]


def test_the_same_step_can_be_saved_again(tmp_path):
    save_all(Checkpoints(tmp_path, keep=2), 1, 2)
    checkpoints = Checkpoints(tmp_path, keep=2)
    checkpoints.save(2, tensors(5), {"again": True})
    checkpoints.wait()
    state = tensors(0)
    facts = Checkpoints(tmp_path).restore(state)
    assert facts is not None
    assert (facts.step, facts.values) == (2, {"again": True})
    assert torch.equal(state["model.w"], tensors(5)["model.w"])
    assert checkpoints.steps() == [1, 2]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000001", "step-00000002-2"]


def test_what_changes_after_save_returns_does_not_reach_the_file(tmp_path):
    state, facts = {"model.w": torch.zeros(300_000)}, {"loader": [1, 2]}
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, state, facts)
    state["model.w"] += 1
    facts["loader"].append(3)
    checkpoints.wait()
    found = checkpoints.restore(state)
    assert found is not None
    assert found.values == {"loader": [1, 2]}
    assert not state["model.w"].any()


def test_save_returns_before_the_file_is_written_and_the_next_one_waits(tmp_path, monkeypatch):
    returned, write = threading.Event(), writing.write

    def slow(*arguments):
        assert returned.wait(timeout=60)
        write(*arguments)

    monkeypatch.setattr(writing, "write", slow)
    front = Checkpoints(tmp_path)
    front.save(1, tensors(1), {})
    assert (front.poll(), front.steps()) == ([], [])
    returned.set()
    front.save(2, tensors(2), {})
    assert front.steps()[0] == 1
    front.wait()
    assert front.steps() == [1, 2]


@pytest.mark.parametrize("fails", [False, True])
def test_the_copies_are_let_go_when_the_save_is_over(tmp_path, monkeypatch, fails):
    staged = writing.staged
    copies: list[weakref.ref[torch.Tensor]] = []

    def watched(state):
        made = staged(state)
        copies.extend(weakref.ref(tensor) for tensor in made.values())
        return made

    def refuse(*_):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(writing, "staged", watched)
    if fails:
        monkeypatch.setattr(manifest, "write", refuse)
    front = Checkpoints(tmp_path)
    front.save(1, tensors(1), {})
    if fails:
        with pytest.raises(SaveFailed, match="1 not written: input/output error; none kept yet"):
            front.wait()
        assert front.poll() == []  # told once
    front.wait()
    assert len(copies) == 2
    assert [copy() for copy in copies] == [None, None]


def test_a_folder_that_cannot_be_made_is_a_message(tmp_path):
    (tmp_path / "file").write_text("")
    front = Checkpoints(tmp_path / "file" / "c")
    front.save(1, tensors(1), {})
    front.save(2, tensors(2), {})
    assert front.poll()[0] == "checkpoint 1 not written: not a directory; none kept yet"


def test_rolling_back_drops_what_came_after(tmp_path):
    save_all(Checkpoints(tmp_path, keep=9), 10, 20, 30, 40)
    front, state = Checkpoints(tmp_path, keep=9), tensors(0)
    facts = front.roll_back(state, 29)
    assert facts is not None
    assert facts.step == 20
    assert torch.equal(state["model.w"], tensors(20)["model.w"])
    assert (front.steps(), front.poll()) == ([10, 20], [])
    assert front.roll_back(state, 9) is None
    assert front.steps() == [10, 20]


def roll_back(path):
    state = build("fsdp")
    checkpoints = open_checkpoints(path)
    for step in (1, 2, 3):
        checkpoints.save(step, state, {"step": step})
    for tensor in state.values():
        tensor.detach().add_(1)
    facts = checkpoints.roll_back(state, 2)
    assert facts is not None
    dist.barrier()
    return facts.values, checkpoints.steps(), {float(whole(t).sum()) for t in state.values()}


def test_ranks_roll_back_together(tmp_path):
    assert run(roll_back, 2, tmp_path, tmp_path / "c") == [({"step": 2}, [1, 2], {0.0})] * 2


def test_a_folder_that_is_none_of_ours_to_read(tmp_path, monkeypatch):
    def refuse(_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(folder, "finished", refuse)  # root may read everything
    with pytest.raises(InputError, match=r"cannot read checkpoints in .*: permission denied"):
        Checkpoints(tmp_path).restore(tensors(0))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA card")
def test_tensors_of_a_card_are_staged_and_restored(tmp_path):
    front, state = Checkpoints(tmp_path), {"model.w": torch.ones(1000, device="cuda")}
    front.save(1, state, {})
    state["model.w"].zero_()
    assert front.restore(state) is not None
    assert state["model.w"].device.type == "cuda"
    assert bool(state["model.w"].all())


def test_only_the_first_save_of_a_run_removes_leftovers(tmp_path):
    save_all(Checkpoints(tmp_path), 1)
    names = ("step-00000002.partial", "step-00000000-3.removed")
    for name in (*names, "notes"):
        (tmp_path / name).mkdir()
    front = Checkpoints(tmp_path)
    front.restore(tensors(0))  # a reader beside the run that writes leaves its draft alone
    assert all((tmp_path / name).exists() for name in names)
    save_all(front, 2)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["notes", "step-00000001", "step-00000002"]


def test_the_manifest_names_everything_and_sha256sum_agrees(tmp_path):
    save_all(Checkpoints(tmp_path), 1)
    path = tmp_path / "step-00000001"
    record = json.loads((path / "manifest.json").read_text())
    assert (record["schema"], record["crore"]) == ("crore.checkpoint/1", __version__)
    assert (record["step"], record["ranks"], record["facts"]) == (1, 1, {"step": 1})
    assert record["tensors"]["model.b"] == {"shape": [2], "dtype": "bool"}
    assert set(record["files"]) == {p.name for p in path.iterdir()} - {
        "manifest.json",
        "manifest.sha256",
    }
    for name, file in record["files"].items():
        content = (path / name).read_bytes()
        assert file == {
            "size_bytes": len(content),
            "sha256": hashlib.sha256(content).hexdigest(),
        }
    subprocess.run(["sha256sum", "--check", "--quiet", "manifest.sha256"], cwd=path, check=True)


def sequence_numbers(groups):
    return [group._get_sequence_number_for_group() for group in groups]


def save_and_count(path):
    """Count this rank's hashes on restoring, and the training groups' collectives on saving."""
    state = build("fsdp")
    checkpoints = open_checkpoints(path)
    weight = state["model.0.up.weight"]
    assert isinstance(weight, DTensor)
    training = [dist.group.WORLD, weight.device_mesh.get_group()]
    before = sequence_numbers(training)
    checkpoints.save(1, state, {})
    checkpoints.wait()
    same = before == sequence_numbers(training)
    with mock.patch.object(manifest, "_sha256", wraps=manifest._sha256) as sha256:
        checkpoints.restore(state)
    hashed = [call.args[0].name for call in sha256.call_args_list]
    dist.barrier()
    return same, hashed, before != sequence_numbers(training)


def test_training_groups_stay_quiet_and_each_file_is_hashed_once(tmp_path):
    results = run(save_and_count, 2, tmp_path, tmp_path / "c")
    assert [same for same, _, _ in results] == [True, True]
    assert [counts for _, _, counts in results] == [True, True]  # the sequence number does count
    hashed = Counter(name for _, names, _ in results for name in names)
    assert hashed == {"__0_0.distcp": 1, "__1_0.distcp": 1, ".metadata": 1}
    assert all(names for _, names, _ in results)


def test_a_restore_tells_how_far_it_is(tmp_path):
    heard = []
    checkpoints = Checkpoints(tmp_path, progress=lambda *event: heard.append(event))
    save_all(checkpoints, 1)
    assert heard == []
    checkpoints.restore(tensors(0))
    files = json.loads((tmp_path / "step-00000001" / "manifest.json").read_text())["files"]
    size_bytes = sum(file["size_bytes"] for file in files.values())
    assert [event for event in heard if event[1] == event[2]] == [
        ("verify", size_bytes, size_bytes),
        ("load", 98, 98),  # 24 floats and 2 booleans
    ]
    assert len(heard) == 4


@settings(max_examples=60)
@given(
    steps=st.lists(st.integers(0, 8), max_size=7),
    keep=st.integers(1, 4),
    damaged=st.sets(st.integers(0, 6)),
)
def test_what_is_superseded_is_never_one_of_the_newest_sound(
    tmp_path_factory, steps, keep, damaged
):
    root = tmp_path_factory.mktemp("c")
    for step in steps:
        folder.publish(folder.draft(root, step))
    everything = folder.finished(root)
    bad = {saved.path for i, saved in enumerate(everything) if i in damaged}
    latest = max(steps, default=0)
    going = set(folder.superseded(root, latest, keep, bad))
    staying = [saved for saved in everything if saved.path not in going]
    sound = sorted({saved.step for saved in everything if saved.path not in bad})
    assert sorted(saved.step for saved in staying) == sound[-keep:]
    assert not bad & {saved.path for saved in staying}
