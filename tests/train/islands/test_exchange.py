"""All members get the same mean, to the last bit, for the bytes the cost model says."""

from __future__ import annotations

import threading
from datetime import timedelta
from typing import Any

import hypothesis
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.train.gloo import run

from crore.cost.islands import BLOCK_VALUES, outer_bytes
from crore.train.islands import Gate, Members, mean
from crore.train.islands.quantise import pack, unpack
from crore.train.islands.settings import BITS

LONG = 4 * 3 * BLOCK_VALUES
"""Whole blocks for each of 2, 3 and 4 members."""


class Threads:
    """A group of threads in one process, with the one collective that is used."""

    def __init__(self, count):
        self.count, self.slots = count, [None] * count
        self.barrier = threading.Barrier(count, timeout=120)

    def member(self, me):
        return ThreadMember(self, me)

    def map(self, function):
        """Return what `function(me, group)` returns for each member."""
        found: list[Any] = [None] * self.count

        def work(me):
            try:
                found[me] = function(me, self.member(me))
            except BaseException as error:
                found[me] = error
                self.barrier.abort()

        threads = [threading.Thread(target=work, args=(me,)) for me in range(self.count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for each in found:
            if isinstance(each, BaseException):
                raise each
        return found


class Done:
    def wait(self):
        return True


class ThreadMember:
    def __init__(self, all_, me):
        self.all, self.me = all_, me

    def alltoall_base(self, output, sent, output_sizes, input_sizes, opts):
        del output_sizes, input_sizes, opts
        self.all.slots[self.me] = sent
        self.all.barrier.wait()
        parts = [each.chunk(self.all.count)[self.me] for each in self.all.slots]
        if sent.numel():
            output.copy_(torch.cat(parts))
        self.all.barrier.wait()
        return Done()


def exchanged(rows, bits, weights=None, judge=None):
    """Return what each member of a group gets that exchanges the rows [M, n]."""
    weights = weights or [1.0] * len(rows)
    extra = {} if judge is None else {"judge": judge}
    return Threads(len(rows)).map(
        lambda me, group: mean(
            Members(group=group, me=me, count=len(rows), weight=weights[me], **extra),
            rows[me], bits,
        )
    )  # fmt: skip


def draw(members, values, seed=0):
    return torch.randn(members, values, generator=torch.Generator().manual_seed(seed))


def same(a, b):
    return torch.equal(a.view(torch.int32), b.view(torch.int32))


@pytest.mark.parametrize("bits", BITS)
@hypothesis.settings(max_examples=15, deadline=None)
@given(members=st.integers(1, 5), values=st.integers(0, 700), seed=st.integers(0, 99))
def test_all_members_get_the_same_bits(bits, members, values, seed):
    found = exchanged(draw(members, values, seed), bits)
    for each in found[1:]:
        assert same(each.mean, found[0].mean)
        assert each.verdict.norms == found[0].verdict.norms
    assert found[0].mean.shape == (values,)


@pytest.mark.parametrize("members", [1, 2, 3, 4])
def test_thirty_two_bits_are_the_weighted_mean(members):
    rows, weights = draw(members, 1001), [3.0, 1.0, 0.5, 7.0][:members]
    expected = np.average(rows.double().numpy(), axis=0, weights=weights)
    for each in exchanged(rows, 32, weights):
        np.testing.assert_allclose(each.mean, expected, rtol=1e-6, atol=1e-6)
        assert each.weights == tuple(weights)


@pytest.mark.parametrize("bits", [16, 8, 4])
def test_few_bits_add_up_in_fp32_and_round_once_more(bits):
    rows = draw(3, LONG)
    arrived = torch.stack([unpack(pack(row, bits), LONG, bits) for row in rows])
    found = exchanged(rows, bits)[1].mean
    expected = unpack(pack(arrived.mean(0), bits), LONG, bits)
    torch.testing.assert_close(found, expected, rtol=0, atol=float(expected.abs().max()) / 100)


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("members", [1, 2, 3, 4])
def test_the_bytes_are_those_of_the_cost_model(bits, members):
    for each in exchanged(draw(members, LONG), bits):
        assert each.bytes_sent == pytest.approx(float(outer_bytes(LONG, members, bits)), rel=1e-12)
        assert each.fact_bytes == (members - 1) * (members**2 + 1) * 8


def test_parts_that_do_not_divide_send_less_than_a_block_each_more():
    sent = exchanged(draw(3, 1000), 4)[0].bytes_sent
    assert 0 < sent - float(outer_bytes(1000, 3, 4)) < 4 * (BLOCK_VALUES / 2 + 2)


def test_a_member_without_weight_receives_and_contributes_nothing():
    rows = draw(3, 500)
    rows[1] = torch.nan
    found = exchanged(rows, 32, [1.0, 0.0, 1.0])
    torch.testing.assert_close(found[1].mean, (rows[0] + rows[2]) / 2)


def test_without_any_weight_nothing_moves():
    assert not exchanged(draw(2, 50), 4, [0.0, 0.0])[0].mean.any()


@pytest.mark.parametrize("bits", BITS)
def test_who_is_left_out_does_not_touch_the_mean(bits):
    rows = draw(4, LONG)
    rows[2, 700] = torch.inf
    good = [0, 1, 3]
    found = exchanged(rows, bits, judge=Gate().judge)
    assert found[0].verdict.fenced == (False, False, True, False)
    arrived = torch.stack([unpack(pack(rows[i], bits), LONG, bits) for i in good]).mean(0)
    limit = 0.5 * float(arrived.abs().max()) / (7 if bits == 4 else 100)
    assert (found[3].mean - arrived).abs().max() <= limit * 1.01


def test_what_nobody_judges_is_not_hidden():
    rows = draw(2, 300)
    rows[0, 5] = torch.nan
    found = exchanged(rows, 4)[1]
    assert not found.mean[5].isfinite()


def test_products_are_added_over_an_islands_ranks_before_anyone_is_judged():
    rows = draw(2, 300)
    members = Members(
        group=None, me=0, count=1, weight=1.0, together=lambda products: products + 21.0
    )
    alone = mean(members, rows[0], 32).verdict.norms[0]
    assert alone == pytest.approx(float((rows[0].square().sum() + 21) ** 0.5), rel=1e-6)


def test_a_lost_member_is_an_error_of_the_group():
    class Broken:
        def alltoall_base(self, *_):
            raise RuntimeError("connection reset")

    with pytest.raises(RuntimeError, match="connection reset"):
        mean(Members(group=Broken(), me=0, count=2, weight=1.0), torch.ones(9), 32)


def on_gloo(values):
    rank = torch.distributed.get_rank()
    members = Members(group=torch.distributed.group.WORLD, me=rank, count=3, weight=rank + 1.0)
    rows = draw(3, values)
    found = [mean(members, rows[rank], bits) for bits in BITS]
    return [(each.mean, each.bytes_sent, each.verdict) for each in found]


def test_a_gloo_group_gives_the_same(tmp_path):
    values = 1000
    ranks = run(on_gloo, 3, tmp_path, values)
    for place, bits in enumerate(BITS):
        here = exchanged(draw(3, values), bits, [1.0, 2.0, 3.0])[0]
        for rank in ranks:
            found, sent, verdict = rank[place]
            assert same(found, here.mean)
            assert (sent, verdict) == (here.bytes_sent, here.verdict)


def on_torchft(store, values):
    groups = pytest.importorskip("torchft.process_group")
    rank = torch.distributed.get_rank()
    group = groups.ProcessGroupGloo(timeout=timedelta(seconds=120))
    group.configure(store, f"island_{rank}", rank, 2)
    members = Members(group=group, me=rank, count=2, weight=1.0)
    found = mean(members, draw(2, values)[rank], 4).mean
    group.shutdown()
    return found


def test_a_torchft_group_gives_the_same(tmp_path):
    pytest.importorskip("torchft")
    from torch.distributed import TCPStore  # type: ignore[attr-defined]  # documented

    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    ranks = run(on_torchft, 2, tmp_path, f"127.0.0.1:{store.port}/outer", 1000)
    here = exchanged(draw(2, 1000), 4)[0].mean
    assert all(same(found, here) for found in ranks)
