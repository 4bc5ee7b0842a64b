"""A watchdog on every rank: when training stands still, it says who hangs, and ends the process.

The trainer marks what it does in a `Beat`; a thread publishes that beat and reads everyone's.
"""

from __future__ import annotations

import contextlib
import math
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from datetime import timedelta
from types import TracebackType
from typing import Final, Self

from torch.distributed import (  # type: ignore[attr-defined]  # documented, not in its __all__
    PrefixStore,
    Store,
    TCPStore,
)

from crore.errors import CroreError
from crore.train.culprit import ENDED, Sign, culprit, sign_of
from crore.train.where import collective_of

EXIT_CODE: Final = 75
"""EX_TEMPFAIL: a launcher that restarts the run may find it well."""
LOOK_AGAIN: Final = 3
"""Intervals between two looks at the signs: a rank that lives gives one in between."""
LAST_WORDS_S: Final = 5.0
"""The callback and the flush get so long before the process ends without them."""
ANSWER_S: Final = 10.0
"""A store that is asked for what it has answers within this."""


class Hung(CroreError):
    """This world stands still, and no watchdog could be put up."""

    exit_code = EXIT_CODE


class Beat:
    """What the trainer is doing. Marks are plain attribute writes: no lock, no call to a rank."""

    __slots__ = ("allowed_s", "marks", "name", "since_s", "step")

    def __init__(self) -> None:
        self.step, self.name, self.marks = 0, "start", 0
        self.allowed_s, self.since_s = 0.0, time.monotonic()

    def begin(self, step: int) -> None:
        """Mark the start of a step."""
        self.step, self.marks = step, 0

    def phase(self, name: str, allowed_s: float = 0.0) -> None:
        """Mark the start of a part of the step that may take `allowed_s`, or the timeout if longer.

        Compilation and the writing of a checkpoint deserve more than a forward pass.
        """
        self.name, self.allowed_s, self.since_s = name, allowed_s, time.monotonic()
        self.marks += 1


def connect() -> Store:
    """Return a connection of its own to the store of this world's rendezvous.

    From `MASTER_ADDR` and `MASTER_PORT`, as torchrun sets them, after the process group is up. A
    restart under torchrun finds no signs of the attempt before it. Raises Hung where the host
    of the store stands still.
    """
    run = os.environ.get("TORCHELASTIC_RUN_ID", "")
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    host, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    answer = Future[Store]()
    # On a thread: a stopped host's system still accepts, and torch waits for its word for ever.
    threading.Thread(target=_reach, args=(host, port, answer), daemon=True).start()
    try:
        store = answer.result(2 * ANSWER_S)
    except TimeoutError as error:
        raise Hung(
            f"the rendezvous store at {host}:{port} hung: no answer for {2 * ANSWER_S:.0f} s, so "
            "its host (rank 0 or the launcher) is stopped or dead"
        ) from error
    return PrefixStore(f"crore/hang/{run}/{attempt}", store)


def _reach(host: str, port: int, answer: Future[Store]) -> None:
    wait = timedelta(seconds=ANSWER_S)
    try:
        answer.set_result(
            TCPStore(host, port, is_master=False, wait_for_workers=False, timeout=wait)
        )
    except Exception as error:  # whoever waits for the answer raises it
        answer.set_exception(error)


class Watchdog:
    """Watches the thread that makes it, as a context: from enter to exit.

    `store` is for the watchdog alone (`connect`). When this rank makes no progress for `timeout_s`,
    the signs of all are read, one line names the culprit, and every rank calls `on_hang` with it
    and ends with `exit_code` (None: goes on; for tests).
    """

    def __init__(
        self,
        store: Store,
        rank: int,
        world: int,
        beat: Beat,
        *,
        timeout_s: float,
        on_hang: Callable[[str], None],
        exit_code: int | None = EXIT_CODE,
        interval_s: float = 1.0,
    ) -> None:
        self._store, self._rank, self._world, self._beat = store, rank, world, beat
        self._timeout_s, self._interval_s = timeout_s, interval_s
        self._on_hang, self._exit_code = on_hang, exit_code
        self._watched = threading.get_ident()
        self._stop, self._said = threading.Event(), threading.Lock()
        self._left, self._count, self._answered_s = False, 0, time.monotonic()
        targets = (self._watch, self._guard)
        self._threads = [
            threading.Thread(target=t, daemon=True, name="crore-hang") for t in targets
        ]

    def __enter__(self) -> Self:
        self._beat.since_s = time.monotonic()
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._left = error is None
        self._beat.phase(ENDED, math.inf)
        self._stop.set()
        for thread in self._threads:  # a store that does not answer must not hold us
            thread.join(self._interval_s if self._left else ANSWER_S)

    def _watch(self) -> None:
        """Publish a sign per interval, and look at everyone's when this rank stands still."""
        with contextlib.suppress(RuntimeError):  # the store is gone: the guard goes on alone
            self._publish()
            while not self._stop.wait(self._interval_s):
                self._publish()
                self._obey()
                if self._overdue_s() > self._turn_s():
                    self._examine()
                self._answered_s = time.monotonic()
            self._publish()  # that it ended
            self._obey()  # an error that ended it may come of another rank's end

    def _obey(self) -> None:
        """Report the verdict that some rank has posted, if one has."""
        if self._store.check(["verdict"]):
            self._report(self._store.get("verdict").decode())

    def _guard(self) -> None:
        """Report a store that no longer answers, which `_watch` itself would wait for for ever."""
        while not self._stop.wait(self._interval_s):
            silent_s = time.monotonic() - self._answered_s
            if self._overdue_s() > 0 and silent_s > self._timeout_s:
                sign = self._sign()
                where = f"{sign.where} ({sign.phase})" if sign.where else sign.phase
                self._report(
                    f"the rendezvous store hung: no answer for {silent_s:.0f} s, so its host (rank "
                    f"0 or the launcher) is stopped or dead; rank {self._rank} is in {where} at "
                    f"step {sign.step}"
                )

    def _overdue_s(self) -> float:
        """Return for how long the trainer has been in its phase beyond what is allowed."""
        beat = self._beat
        return time.monotonic() - beat.since_s - max(beat.allowed_s, self._timeout_s)

    def _turn_s(self) -> float:
        """Return how long this rank leaves it to lower ones to look at the signs.

        In a large world few read all signs at once: twice as many each turn without a verdict.
        """
        return self._rank.bit_length() * (LOOK_AGAIN + 1) * self._interval_s

    def _sign(self) -> Sign:
        beat, now_s = self._beat, time.monotonic()
        return Sign(
            rank=self._rank,
            count=self._count,
            time_s=time.time(),
            step=beat.step,
            phase=beat.name,
            marks=beat.marks,
            quiet_s=now_s - beat.since_s,
            allowed_s=min(max(beat.allowed_s, self._timeout_s), sys.maxsize),
            where=collective_of(self._watched, threading.get_ident()),
        )

    def _publish(self) -> None:
        self._count += 1
        self._store.set(f"sign/{self._rank}", self._sign().to_json())

    def _examine(self) -> None:
        """Look at all signs twice; post a verdict if a rank hangs. The first posted one counts."""
        before = self._signs()
        for _ in range(LOOK_AGAIN):
            if self._stop.wait(self._interval_s):
                return
            self._publish()
        line = culprit(before, self._signs(), time.time())
        if line and self._overdue_s() > 0:
            self._report(self._store.compare_set("verdict", "", line).decode())

    def _signs(self) -> list[Sign | None]:
        """Return the last sign of every rank, None for one that gave none yet."""
        keys = [f"sign/{rank}" for rank in range(self._world)]
        self._answered_s = time.monotonic()
        if self._store.check(keys):
            return [sign_of(text) for text in self._store.multi_get(keys)]
        return [sign_of(self._store.get(k)) if self._store.check([k]) else None for k in keys]

    def _report(self, line: str) -> None:
        """Say the line once, and end the process."""
        if self._left or not self._said.acquire(blocking=False):
            return
        words = threading.Thread(target=self._last_words, args=(line,), daemon=True)
        words.start()
        words.join(LAST_WORDS_S)  # the stuck trainer may hold a lock that they need
        if self._exit_code is not None:
            # First the others read the verdict: an end before would look to them like a crash.
            time.sleep(LOOK_AGAIN * self._interval_s)
            os._exit(self._exit_code)
        self._stop.set()

    def _last_words(self, line: str) -> None:
        self._on_hang(line)
        _flush((sys.stdout, sys.stderr))


def _flush(streams: Iterable[object]) -> None:
    for stream in streams:
        with contextlib.suppress(OSError, ValueError, AttributeError):  # closed, or none at all
            stream.flush()  # type: ignore[attr-defined]
