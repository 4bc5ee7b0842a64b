"""Bytes of an outer step as a network counts them, in a namespace where nothing else is sent."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from crore.cost.islands import outer_bytes
from crore.train.islands.quantise import packed_bytes

VALUES = 2_000_000
HEADERS = 0.02
"""Of TCP and IP, and of what gloo says to begin with."""
SENDER = """
import json, sys, torch, torch.distributed as dist
from crore.train.islands import Members, mean

def counted():
    line = [it for it in open("/proc/net/dev") if it.strip().startswith("lo:")][0]
    return int(line.split()[9])  # bytes sent

def rank(me, count, bits, values):
    dist.init_process_group("gloo", init_method="tcp://127.0.0.1:29399", rank=me, world_size=count)
    members = Members(group=dist.group.WORLD, me=me, count=count, weight=1.0)
    numbers = torch.randn(values, generator=torch.Generator().manual_seed(me))
    mean(members, numbers[:1024], bits)  # connections
    dist.barrier()
    before = counted()
    dist.barrier()
    sent = mean(members, numbers, bits).bytes_sent
    dist.barrier()
    if me == 0:
        print(json.dumps([counted() - before, sent]))
    dist.barrier()

if __name__ == "__main__":
    count, bits, values = map(int, sys.argv[1:])
    torch.multiprocessing.start_processes(
        rank, (count, bits, values), nprocs=count, start_method="fork"
    )
"""


def _sent(tmp_path: Path, islands: int, bits: int) -> tuple[int, int]:
    """Return bytes of all islands on the wire, and those that one said it sent."""
    if shutil.which("unshare") is None or shutil.which("ip") is None:
        pytest.skip("no unshare or ip here")
    script = tmp_path / "sender.py"
    script.write_text(SENDER, encoding="utf-8")
    words = f"ip link set lo up && exec {sys.executable} {script} {islands} {bits} {VALUES}"
    done = subprocess.run(
        ["unshare", "--net", "sh", "-c", words], capture_output=True, text=True, timeout=300,
        check=False,
    )  # fmt: skip
    if "Operation not permitted" in done.stderr:
        pytest.skip("no network namespaces here")
    assert done.returncode == 0, done.stderr[-2000:]
    wire, said = json.loads(done.stdout.splitlines()[-1])
    return wire, said


@pytest.mark.parametrize(("islands", "bits"), [(4, 4), (3, 8), (2, 32)])
def test_the_wire_carries_what_the_plan_says(tmp_path: Path, islands: int, bits: int) -> None:
    wire, said = _sent(tmp_path, islands, bits)
    planned = float(outer_bytes(float(VALUES), float(islands), float(bits)))
    assert said == pytest.approx(planned, rel=0.001)  # whole blocks
    assert islands * planned <= wire <= islands * planned * (1 + HEADERS)


def test_four_bits_every_fifty_steps_are_180_times_fewer_than_bf16_every_step() -> None:
    apart = packed_bytes(VALUES, 4)
    assert 50 * 2 * VALUES / apart >= 180
