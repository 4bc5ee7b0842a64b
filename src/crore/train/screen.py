"""What a person sees of a run, from rank 0: one live block on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Protocol, TextIO

from crore.train import text
from crore.train.records import Checkpoint, End, Eval, Event, Record, Sample, Start, Step
from crore.train.summary import summary
from crore.train.tally import Tally

REFRESH_S: Final = 0.5
"""The live block is drawn no more often."""
QUIET_S: Final = 10.0
"""A plain line at least this often in the first quarter of an hour, then ever less."""
QUIET_SHARE: Final = 0.01
"""Of the time so far: the longest silence of a long run."""
MARKS: Final = 20
"""A plain line at each such part of all steps."""


class Display(Protocol):
    """Where lines and the state of a run appear."""

    @property
    def columns(self) -> int:
        """Width of a line in characters."""

    def say(self, lines: Sequence[str]) -> None:
        """Show lines that stay."""

    def progress(self, tally: Tally) -> None:
        """Show how far the run is, when it is time to."""

    def close(self) -> None:
        """Leave the terminal as it was."""


class Screen:
    """Shows a run on a display; a `Listener`.

    `tally` is that of the run so far where it is resumed (`tally_of(read_run(path).records)`);
    `wrote` (file -> what it holds) and `then` (command -> what it does) end the summary.
    """

    def __init__(
        self,
        display: Display,
        *,
        tally: Tally | None = None,
        wrote: Mapping[str, str] | None = None,
        then: Mapping[str, str] | None = None,
    ) -> None:
        self.tally = tally or Tally()
        self._display, self._wrote, self._then = display, wrote, then

    def start(self, record: Start) -> None:
        """Say what trains on what, and what the plan predicts."""
        self._take(record, text.start_lines(record))
        self._display.progress(self.tally)

    def step(self, record: Step) -> None:
        """Go on; a step is shown only when it is time to."""
        self.tally = self.tally.after(record)
        self._display.progress(self.tally)

    def eval(self, record: Eval) -> None:
        """Show an evaluation."""
        self._take(record, text.eval_lines(record))

    def sample(self, record: Sample) -> None:
        """Show what the model wrote."""
        self._take(record, text.sample_lines(record))

    def checkpoint(self, record: Checkpoint) -> None:
        """Show that a checkpoint is complete."""
        self._take(record, text.checkpoint_lines(record))

    def event(self, record: Event) -> None:
        """Show an event."""
        self._take(record, text.event_lines(record))

    def end(self, record: End) -> None:
        """Show the summary."""
        self.tally = self.tally.after(record)
        self._display.close()
        shown = summary(self.tally, self._wrote, self._then, self._display.columns)
        self._display.say(["", *shown.split("\n")])

    def close(self) -> None:
        """Leave the terminal as it was."""
        self._display.close()

    def _take(self, record: Record, lines: Sequence[str]) -> None:
        self.tally = self.tally.after(record)
        self._display.say(lines)


class PlainDisplay:
    """Plain lines, for a file, a pipe or a batch system's log; a reader that left is no error."""

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream: TextIO | None = stream
        self._clock = clock
        self._began = self._last = clock()
        self._mark = 0
        self.columns = text.COLUMNS

    def say(self, lines: Sequence[str]) -> None:
        """Write lines."""
        if self._stream is None:
            return
        whole = "".join(f"{line}\n" for line in text.fitted(lines, self.columns))
        encoding = self._stream.encoding or "utf-8"
        try:
            self._stream.write(whole.encode(encoding, "replace").decode(encoding))
            self._stream.flush()
        except (OSError, ValueError):  # a pipe without a reader, a full disk; a closed stream
            self._stream = None

    def progress(self, tally: Tally) -> None:
        """Write a line for each 20th part of the steps, and after 10 s of silence."""
        if tally.step is None or tally.start is None:
            return
        now, mark = self._clock(), tally.done * MARKS // tally.start.steps
        silence = max(QUIET_S, QUIET_SHARE * (now - self._began))
        if mark > self._mark or now - self._last >= silence:
            self._mark, self._last = mark, now
            self.say([text.step_line(tally)])

    def close(self) -> None:
        """Nothing is held."""


class LiveDisplay:
    """One block on a terminal that is drawn again and again; lines scroll by above it."""

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        from rich.console import Console

        self._console = Console(file=stream, highlight=False, markup=False, emoji=False)
        self._clock = clock
        self._live: Any = None
        self._last = -REFRESH_S

    @property
    def columns(self) -> int:
        """Width of the terminal, up to what reads well."""
        return min(self._console.width, text.COLUMNS)

    def say(self, lines: Sequence[str]) -> None:
        """Write lines above the block."""
        for line in text.fitted(lines, self.columns):
            self._console.print(line, soft_wrap=True)

    def progress(self, tally: Tally) -> None:
        """Draw the block, twice a second at most."""
        now = self._clock()
        if now - self._last < REFRESH_S:
            return
        self._last = now
        if self._live is None:
            self._live = self._started()
        self._live.update(block(tally), refresh=True)

    def close(self) -> None:
        """Take the block away and give the cursor back."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _started(self) -> Any:
        """Return the live block. It is drawn by `progress` alone: no thread beside the training."""
        from rich.live import Live

        live = Live(console=self._console, auto_refresh=False, transient=True)
        live.start()
        return live


def block(tally: Tally) -> Any:
    """Return the live block of a run: a bar with the time left, then up to three lines."""
    from rich.console import Group
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    steps = tally.start.steps if tally.start else 1
    bar = Table.grid(padding=(0, 1), expand=True)
    bar.add_column(ratio=1)
    bar.add_column(no_wrap=True)
    share = f"{text.position(tally)}  {tally.done / steps:4.0%}  {text.left(tally)}"
    bar.add_row(ProgressBar(total=steps, completed=tally.done), share.rstrip())
    lines = (Text(line, no_wrap=True, overflow="ellipsis") for line in text.status_lines(tally))
    return Group(bar, *lines)


def make_screen(
    stream: TextIO,
    *,
    quiet: bool = False,
    tally: Tally | None = None,
    wrote: Mapping[str, str] | None = None,
    then: Mapping[str, str] | None = None,
) -> list[Screen]:
    """Return the screen for a stream, as a list of one; of none where it is to be quiet."""
    if quiet:
        return []
    display = LiveDisplay(stream) if stream.isatty() else PlainDisplay(stream)
    return [Screen(display, tally=tally, wrote=wrote, then=then)]
