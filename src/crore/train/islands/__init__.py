"""Islands: training apart, joined every H steps by an outer step in few bits (DiLoCo).

`settings` says how; `outer` holds the shared weights and makes the outer step; `exchange` is the
mean over islands, on the bytes of `quantise`; `gate` leaves out an island that went wrong;
`joining` makes the calls while a run trains. A rank has its own part of every tensor, so islands
may be sharded in any way.
"""

from __future__ import annotations

from crore.train.islands.exchange import Exchanged, Members, mean
from crore.train.islands.gate import Gate, Verdict
from crore.train.islands.outer import OuterState
from crore.train.islands.settings import Outer

__all__ = ["Exchanged", "Gate", "Members", "Outer", "OuterState", "Verdict", "mean"]
