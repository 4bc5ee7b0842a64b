"""Damage, a full disk, a lost rank, another model: one line each, and never half a model."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from tests.train.checkpoint.layouts import build, expected, open_checkpoints, shapes
from tests.train.gloo import run, start

from crore.errors import MAX_MESSAGE_CHARS, InputError
from crore.io import read_json, write_json
from crore.train.checkpoint import Checkpoints, Facts, SaveFailed, writing
from crore.train.checkpoint.manifest import File
from crore.train.checkpoint.team import RankFailed

BIG = 1 << 20
"""Elements of a tensor that does not fit on the small disks below: 4 MiB."""


def tensors(step, elements=50):
    return {"model.w": torch.full((elements,), float(step)), "optim.w.step": torch.tensor(step)}


def saved(folder, *steps):
    checkpoints = Checkpoints(folder)
    for step in steps:
        checkpoints.save(step, tensors(step), {"step": step})
    checkpoints.wait()
    return checkpoints


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def truncate(path):
    os.truncate(path, path.stat().st_size - 1)


HARM = {"flipped": flip, "truncated": truncate, "missing": Path.unlink}


@pytest.mark.parametrize("harm", HARM)
@pytest.mark.parametrize("name", ["__0_0.distcp", ".metadata", "manifest.json", "manifest.sha256"])
def test_a_damaged_file_falls_back_to_the_checkpoint_before_and_says_so(tmp_path, name, harm):
    saved(tmp_path, 1, 2)
    HARM[harm](tmp_path / "step-00000002" / name)
    checkpoints, state = Checkpoints(tmp_path), tensors(0)
    facts = checkpoints.restore(state)
    assert facts is not None
    assert (facts.step, facts.values) == (1, {"step": 1})
    assert torch.equal(state["model.w"], tensors(1)["model.w"])
    (message,) = checkpoints.poll()
    said = "manifest.json" if name == "manifest.sha256" and harm != "missing" else name
    assert message.startswith(f"checkpoint 2 is damaged ({said}: ")
    assert message.endswith("); 1 restored")


def test_when_all_are_damaged_nothing_is_loaded_and_each_is_named(tmp_path):
    saved(tmp_path, 1, 2)
    for folder in tmp_path.iterdir():
        flip(folder / "__0_0.distcp")
    checkpoints, state = Checkpoints(tmp_path), tensors(0)
    assert checkpoints.restore(state) is None
    assert torch.equal(state["model.w"], tensors(0)["model.w"])
    assert checkpoints.poll() == [
        f"checkpoint {step} is damaged (__0_0.distcp: SHA-256 differs); no sound one is left"
        for step in (2, 1)
    ]


def test_a_damaged_checkpoint_never_counts_among_those_kept(tmp_path):
    saved(tmp_path, 10, 30)
    flip(tmp_path / "step-00000030" / "__0_0.distcp")
    checkpoints = Checkpoints(tmp_path, keep=1)
    assert checkpoints.restore(tensors(0)) is not None
    checkpoints.save(20, tensors(20), {})
    checkpoints.wait()
    assert checkpoints.steps() == [20]


def test_a_checkpoint_of_a_newer_crore_is_refused_not_passed_over(tmp_path):
    saved(tmp_path, 1, 2)
    manifest = tmp_path / "step-00000002" / "manifest.json"
    text = manifest.read_text().replace("crore.checkpoint/1", "crore.checkpoint/2")
    manifest.write_text(text)
    digest = sha256(text.encode()).hexdigest()
    manifest.with_name("manifest.sha256").write_text(f"{digest}  manifest.json\n")
    with pytest.raises(InputError, match="install a newer crore"):
        Checkpoints(tmp_path).restore(tensors(0))


LONG = "model.layers.17.mixture.experts.31.gate_projection.weight" * 3
ANOTHER = {
    "model.w is float32[50] there, float32[51] here": {"model.w": torch.zeros(51)},
    "model.w is float32[50] there, bfloat16[50] here": {"model.w": torch.zeros(50).bfloat16()},
    "it lacks model.extra": {"model.extra": torch.zeros(1)},
    "it has model.w, which the model lacks": {"model.w": None},
    "it lacks model.layers": {LONG: torch.zeros(1)},
}


@pytest.mark.parametrize("difference", ANOTHER)
def test_another_model_is_refused_with_the_first_difference(tmp_path, difference):
    saved(tmp_path, 1)
    state = {name: t for name, t in (tensors(0) | ANOTHER[difference]).items() if t is not None}
    before = {name: tensor.clone() for name, tensor in state.items()}
    with pytest.raises(InputError) as caught:
        Checkpoints(tmp_path).restore(state)
    assert str(caught.value).startswith(f"step-00000001 is of another model: {difference}")
    assert len(str(caught.value)) <= MAX_MESSAGE_CHARS
    assert all(torch.equal(tensor, before[name]) for name, tensor in state.items())


def restore_without_one(folder, missing):
    """Each stage holds its own names; one is held by none."""
    state = {name: tensor for name, tensor in build("pp").items() if name != missing}
    try:
        open_checkpoints(folder).restore(state)
    except InputError as error:
        return str(error)


def test_a_tensor_that_no_stage_holds_is_missed_by_all(tmp_path):
    whole = Checkpoints(tmp_path / "c")
    whole.save(1, {name: expected(name, 1) for name in shapes()}, {})
    whole.wait()
    lost = "model.3.norm.bias"
    messages = run(restore_without_one, 2, tmp_path, tmp_path / "c", lost)
    line = f"step-00000001 is of another model: it has {lost}, which the model lacks"
    assert messages == [f"{line}; name another folder"] * 2


@contextlib.contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """Mount a disk of 3 MiB, or skip where this user may not."""
    folder.mkdir()
    mount = shutil.which("mount")
    command = [mount or "", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(folder)]
    if mount is None or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("only root can mount a small disk")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_keeps_the_old_checkpoint_and_the_next_save_tries_again(tmp_path):
    with small_disk(tmp_path / "disk") as disk:
        checkpoints = saved(disk / "c", 1)
        checkpoints.save(2, tensors(2, BIG), {})
        while not (messages := checkpoints.poll()):
            time.sleep(0.01)
        assert messages == ["checkpoint 2 not written: no space left on device; 1 kept"]
        assert [path.name for path in (disk / "c").iterdir()] == ["step-00000001"]
        checkpoints.save(3, tensors(3), {})
        checkpoints.wait()
        assert (checkpoints.steps(), checkpoints.poll()) == ([1, 3], [])


def test_a_disk_that_fills_up_at_any_file_of_a_checkpoint(tmp_path):
    with small_disk(tmp_path / "disk") as disk:
        checkpoints = saved(disk / "c", 1)
        filler, free_bytes = disk / "filler", shutil.disk_usage(disk).free
        failures = 0
        while checkpoints.steps() == [1]:
            filler.write_bytes(bytes(free_bytes - 4096 * failures))
            checkpoints.save(2, tensors(2), {})
            with contextlib.suppress(SaveFailed):
                checkpoints.wait()
                break
            assert [path.name for path in (disk / "c").iterdir()] == ["step-00000001"]
            failures += 1
        assert failures >= 4  # tensors, index, manifest, digest
        assert checkpoints.restore(tensors(0)) == Facts(step=2, values={})


def save_under_a_limit(folder):
    """Rank 1 may write only 1 MB to a file; both warn of nothing."""
    warnings.simplefilter("error")
    checkpoints = open_checkpoints(folder)
    checkpoints.save(1, {"model.w": torch.ones(8)}, {})
    checkpoints.wait()
    if dist.get_rank() == 1:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, resource.RLIM_INFINITY))
    checkpoints.save(2, {f"model.{dist.get_rank()}": torch.ones(BIG)}, {})
    with contextlib.suppress(SaveFailed):
        checkpoints.wait()
        raise AssertionError("a file grew beyond its limit")
    checkpoints.save(3, {f"model.{dist.get_rank()}": torch.ones(BIG)}, {})
    checkpoints.save(4, {"model.w": torch.ones(8)}, {})
    checkpoints.wait()
    return checkpoints.poll(), checkpoints.steps()


def test_a_rank_that_cannot_write_fails_the_save_on_all_and_training_goes_on(tmp_path):
    messages = ["checkpoint 3 not written: file too large; 1 kept"]
    results = run(save_under_a_limit, 2, tmp_path, tmp_path / "c")
    assert results == [(messages, [1, 4])] * 2
    assert not list((tmp_path / "c").glob("*.*"))


def lose_a_rank(folder, said):
    """Rank 1 dies while rank 0 saves."""
    state = {"model.w": torch.ones(8)}
    checkpoints = open_checkpoints(folder)
    checkpoints.save(1, state, {})
    checkpoints.wait()
    dist.barrier()
    if dist.get_rank() == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    checkpoints.save(2, state, {})
    with contextlib.suppress(SaveFailed):
        checkpoints.wait()
        raise AssertionError("saved without rank 1")
    checkpoints.save(3, state, {})
    while not (messages := checkpoints.poll()):
        time.sleep(0.01)
    write_json(said, "said", 1, {"messages": messages})
    os._exit(0)


def test_a_lost_rank_is_said_in_one_line(tmp_path):
    said, end_s = tmp_path / "said", time.monotonic() + 120
    with start(lose_a_rank, 2, tmp_path, tmp_path / "c", said):
        while not said.exists():
            assert time.monotonic() < end_s
            time.sleep(0.01)
    (message,) = read_json(said, "said", 1)["messages"]
    assert message.startswith("checkpoint 3 not written: a rank is gone or stuck (")
    assert message.endswith("); 1 kept")
    assert len(message) < 160
    assert [path.name for path in (tmp_path / "c").iterdir()] == ["step-00000001"]


def test_a_folder_that_not_all_ranks_share_is_said(tmp_path):
    (tmp_path / "__0_0.distcp").write_bytes(b"123")
    file = File(size_bytes=3, sha256="")
    writing._check_all_here(tmp_path, {"__0_0.distcp": file})
    with pytest.raises(RankFailed, match=r"rank 0 does not see __1_0\.distcp: the folder must be"):
        writing._check_all_here(tmp_path, {"__0_0.distcp": file, "__1_0.distcp": file})


NOISY = """
import resource, sys, torch
from pathlib import Path
from crore.train.checkpoint import Checkpoints
checkpoints = Checkpoints(Path(sys.argv[1]))
state = {"model.w": torch.ones(1 << 20)}
checkpoints.save(1, state, {})
checkpoints.wait()
checkpoints.restore(state)
resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, resource.RLIM_INFINITY))
checkpoints.save(2, state, {})
"""


def test_nothing_but_messages_is_ever_printed(tmp_path):
    command = [sys.executable, "-X", "dev", "-W", "error", "-c", NOISY, str(tmp_path / "c")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert json.loads((tmp_path / "c/step-00000001/manifest.json").read_text())["step"] == 1
