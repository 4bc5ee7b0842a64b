"""How a run ends: what a rank reports, and the word that it leaves when it cannot report."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from crore.train.records import EndReason

RUN_ID: Final = "crore-"
"""Begins the name of a world that crore itself started."""
LEFT_CODE: Final = 75
"""EX_TEMPFAIL: the world made room in its island; another may take its seat."""
HUNG: Final = "hung: "
"""Begins the word of a rank that ended because some rank hung."""

_PLACE: Final = re.compile(r"\[[^\]]*\.cc:[0-9]+\] ")
"""Where in gloo's source an error was raised: no help to a reader."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """How a run ended, as one rank saw it."""

    reason: EndReason
    message: str
    exit_code: int

    @classmethod
    def asked(cls, by: signal.Signals) -> Self:
        """Return the outcome of a run that was asked to end: 0, but 130 after Ctrl-C.

        A batch system that ends a job finds it well; a shell must not go on to what follows.
        """
        code = 130 if by == signal.SIGINT else 0
        return cls(reason="signal", message=f"asked to end by {by.name}", exit_code=code)


def leave_word(line: str) -> bool:
    """Tell the launcher which rank hung; False where crore did not start this process."""
    path = os.environ.get("TORCHELASTIC_ERROR_FILE")
    if path is None or not os.environ.get("TORCHELASTIC_RUN_ID", "").startswith(RUN_ID):
        return False
    word = {"message": f"{HUNG}{line}", "extraInfo": {"timestamp": str(int(time.time()))}}
    Path(path).write_text(json.dumps({"message": word}), encoding="utf-8")
    return True


def how_lost(rank: int, codes: Sequence[int], word: object) -> str:
    """Return what became of a rank that failed, from all ranks' exit codes and its own word.

    One that was killed is named before one that failed for want of it. The launcher ends those
    that are left by SIGTERM.
    """
    said = word.get("message", "") if isinstance(word, Mapping) else word
    first = (str(said).strip().splitlines() or [""])[0]
    if first.startswith(HUNG):
        return first.removeprefix(HUNG)
    for other in (rank, *range(len(codes))):
        if codes[other] < 0 and codes[other] != -signal.SIGTERM:
            return f"rank {other} was killed by {signal.Signals(-codes[other]).name}"
    return f"rank {rank} ended with {codes[rank]} ({_PLACE.sub('', first)[:100]})"
