"""Who looks after a fleet: a lighthouse that goes out is lit again, where it was."""

from __future__ import annotations

import socket
from importlib.util import find_spec
from types import SimpleNamespace
from typing import Any, cast

import pytest
from tests.train.tiny import home, job

from crore.train.fault import supervisor
from crore.train.fault.supervisor import Fleet, Supervisor
from crore.train.records import Event


@pytest.mark.skipif(find_spec("torchft") is None, reason="needs crore[ft]")
def test_a_lighthouse_whose_port_another_has_for_a_while_is_lit_again_after_it(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(supervisor, "RESTART_S", 0.0)
    told: list[Event] = []
    watches = Supervisor(job(home(tmp_path)), Fleet(worlds=2))
    watches.listeners = cast("Any", SimpleNamespace(event=told.append))
    [house] = watches.houses
    try:
        house.start()
        where, port = house.address, int(house.address.rpartition(":")[2])
        house.kill()
        with socket.create_server((house.host, port)):
            for _ in range(2):
                watches._keep_lighthouses()
                assert house.process is not None
                assert house.process.wait(60) != 0
        watches._keep_lighthouses()
        assert house.alive
        assert house.address == where
    finally:
        house.kill()
    assert [event.message for event in told] == [
        f"a lighthouse did not start on port {port} of {house.host}: trying again",
        "the lighthouse is lit again",
    ]
