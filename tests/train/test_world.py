"""Who a process is, as a launcher's environment says."""

from __future__ import annotations

import pytest

from crore.errors import InputError, UnknownName
from crore.train.world import Membership, check_device, is_first, membership, restarted, speaks

MEET = {"MASTER_ADDR": "node1", "MASTER_PORT": "29500"}
TORCHRUN = {"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "4"} | MEET
SRUN = {
    "SLURM_PROCID": "5", "SLURM_STEP_NUM_TASKS": "8", "SLURM_LOCALID": "1",
    "SLURM_STEP_TASKS_PER_NODE": "4(x2)",
} | MEET  # fmt: skip
FIFTH = Membership(rank=5, ranks=8, local_rank=1, local_ranks=4)


@pytest.mark.parametrize(
    "environment", [TORCHRUN, SRUN, SRUN | {"SLURM_STEP_TASKS_PER_NODE": "4,4"}]
)
def test_torchrun_and_srun_say_who_a_process_is(environment):
    assert membership(environment) == FIFTH


@pytest.mark.parametrize(
    "environment",
    [
        {},
        MEET,
        {"SLURM_PROCID": "0", "SLURM_NTASKS": "8", "SLURM_LOCALID": "0"},  # a batch script itself
        SRUN | {"SLURM_STEP_NUM_TASKS": "1"},  # a shell on a node
    ],
)
def test_elsewhere_a_process_is_alone(environment):
    assert membership(environment) is None


@pytest.mark.parametrize("name", ["WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"])
def test_a_rank_without_the_rest_is_told_what_is_missing(name):
    environment = {key: value for key, value in TORCHRUN.items() if key != name}
    with pytest.raises(InputError, match=f"RANK says .* but {name} is not set"):
        membership(environment)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("RANK", "x"), ("RANK", "8"), ("WORLD_SIZE", "-1"), ("WORLD_SIZE", "5"),
        ("LOCAL_RANK", "1.5"), ("MASTER_PORT", "99999"),
    ],
)  # fmt: skip
def test_numbers_that_make_no_sense_are_refused(name, value):
    with pytest.raises(InputError, match=f"{name}={value}.* describe no rank of a world"):
        membership(TORCHRUN | {name: value})


def test_ranks_of_a_node_default_to_all():
    environment = {key: value for key, value in TORCHRUN.items() if key != "LOCAL_WORLD_SIZE"}
    assert membership(environment) == Membership(rank=5, ranks=8, local_rank=1, local_ranks=8)


def test_rank_0_writes_and_one_process_of_each_machine_speaks(monkeypatch):
    assert (is_first(), speaks(), restarted()) == (True, True, False)
    for name, value in (TORCHRUN | {"TORCHELASTIC_RESTART_COUNT": "2"}).items():
        monkeypatch.setenv(name, value)
    assert (is_first(), speaks(), restarted()) == (False, False, True)
    monkeypatch.setenv("LOCAL_RANK", "0")
    assert (is_first(), speaks()) == (False, True)


def test_devices_are_known_and_there(monkeypatch):
    check_device("")
    check_device("cpu")
    with pytest.raises(UnknownName, match="unknown device 'tpu'"):
        check_device("tpu")
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(InputError, match="torch sees no CUDA card here"):
        check_device("cuda")
