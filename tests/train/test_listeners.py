"""Each listener hears every record in order; all are closed whatever one does."""

from __future__ import annotations

import pytest
from tests.train.feed import END, EVAL, START, run_of

from crore.train.listeners import Listeners
from crore.train.log import RunLog
from crore.train.records import Event, Record


class Ear:
    """A listener that remembers."""

    def __init__(self, fails: bool = False) -> None:
        self.heard: list[Record] = []
        self.closed = False
        self._fails = fails

    def __getattr__(self, name: str):
        return self.heard.append

    def close(self) -> None:
        self.closed = True
        if self._fails:
            raise OSError("cannot close")


def test_every_record_reaches_every_listener():
    told = [START, EVAL, *run_of(1, 10), Event(step=3, what="note", message="x"), END]
    ears = Ear(), Ear()
    all_of_them = Listeners(ears)
    for record in told:
        getattr(all_of_them, record.kind)(record)
    assert ears[0].heard == ears[1].heard == told


def test_all_are_closed_and_the_error_is_told():
    ears = Ear(), Ear(fails=True), Ear()
    with pytest.raises(OSError, match="cannot close"):
        Listeners(ears).close()
    assert all(ear.closed for ear in ears)


def test_other_ranks_tell_nobody(tmp_path):
    Listeners().start(START)
    Listeners([RunLog(tmp_path / "run.jsonl")]).close()
    assert list(tmp_path.iterdir()) == []
