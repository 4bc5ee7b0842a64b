"""Fake equals real: the same lists, FLOPs and nearly the same peak on every rank of real worlds."""

from __future__ import annotations

import pytest
from tests.rehearse.plans import PLANS

from crore.rehearse.fake import rehearse
from crore.rehearse.real import run
from crore.rehearse.scaled import PEAK, same_messages

WORK = {case.name: case for case in PLANS}
WORLDS = ("pp", "ep")
"""Run on every day; the rest, 2 x 2 x 2 among it, as drills."""
LARGER = ("composed", "cp", "hsdp", "ep tp", "ep pp", "interleaved", "zero bubble",
          "composed bf16")  # fmt: skip


def check(name: str) -> None:
    """Hold every rank of a world's processes against its rehearsal."""
    work = WORK[name].work()
    for real in run(work):
        fake = rehearse(work, real.rank)
        assert same_messages(fake, real)
        assert fake.groups == real.groups
        assert fake.flops == real.flops
        assert fake.peak_bytes == pytest.approx(real.peak_bytes, rel=PEAK)


@pytest.mark.parametrize("name", WORLDS)
def test_fake_equals_real(name):
    check(name)


@pytest.mark.drill
@pytest.mark.parametrize("name", LARGER)
def test_fake_equals_real_on_larger_worlds(name):
    check(name)
