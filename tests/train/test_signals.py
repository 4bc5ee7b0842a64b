"""Signals ask a run to leave."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from crore.train.signals import ASKING, LeaveRequest


def send(number):
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", ASKING)
def test_the_first_signal_asks_and_ends_nothing(number):
    with LeaveRequest() as leave:
        before = leave.asked
        send(number)
        assert (before, leave.asked) == (None, number)


@pytest.mark.parametrize("first", ASKING)
def test_ctrl_c_later_than_a_signal_leaves_at_once(first, monkeypatch):
    monkeypatch.setattr("crore.train.signals.AGAIN_S", 0.0)
    with LeaveRequest() as leave:
        send(first)
        with pytest.raises(KeyboardInterrupt):
            send(signal.SIGINT)
        assert leave.asked == first


def test_the_same_ctrl_c_told_twice_is_one(monkeypatch):
    monkeypatch.setattr("crore.train.signals.AGAIN_S", 60.0)
    with LeaveRequest() as leave:
        send(signal.SIGTERM)
        send(signal.SIGINT)
        assert leave.asked == signal.SIGTERM


def test_what_was_blocked_before_is_heard():
    signal.pthread_sigmask(signal.SIG_BLOCK, ASKING)
    try:
        signal.raise_signal(signal.SIGTERM)
        with LeaveRequest() as leave:
            assert leave.asked == signal.SIGTERM
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, ASKING)


def test_sigterm_again_changes_nothing():
    with LeaveRequest() as leave:
        send(signal.SIGINT)
        send(signal.SIGTERM)
        assert leave.asked == signal.SIGINT


def test_handlers_are_as_before_also_after_an_error():
    before = [signal.getsignal(s) for s in ASKING]
    with pytest.raises(ValueError, match="in between"), LeaveRequest():
        raise ValueError("in between")
    assert [signal.getsignal(s) for s in ASKING] == before


def test_off_the_main_thread_nothing_is_touched():
    before, seen = [signal.getsignal(s) for s in ASKING], []

    def other():
        with LeaveRequest() as leave:
            seen.append((leave.asked, [signal.getsignal(s) for s in ASKING]))

    thread = threading.Thread(target=other)
    thread.start()
    thread.join()
    assert seen == [(None, before)]
