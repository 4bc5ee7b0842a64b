"""Stdout, told apart from every other file when it cannot be written."""

import contextlib
import io
import os
from collections.abc import Iterator
from typing import TextIO

from crore.errors import InputError

PIPE_CLOSED = 141  # 128 + SIGPIPE, what a shell reports for `crore … | head`


class Answer(io.TextIOBase):
    """Writes through to `stream`, which is None when the shell has closed it (`>&-`).

    A write that fails raises InputError; a reader that left ends the program with `PIPE_CLOSED`.
    """

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # an ASCII terminal reads ? for ×

    @property
    def encoding(self) -> str:  # type: ignore[override]  # the base's has no setter either
        """What its characters are sent in; ASCII where the shell has closed it."""
        return "ascii" if self._stream is None else self._stream.encoding or "utf-8"

    def write(self, text: str) -> int:
        """Write, and return the number of characters."""
        if text == "":  # typer's probe, not an answer: its failure would go unseen
            return 0
        with self._open() as stream:
            return stream.write(text)

    def flush(self) -> None:
        """Pass on what is buffered."""
        if self._stream is not None:
            with self._open() as stream:
                stream.flush()

    def isatty(self) -> bool:
        """Return whether a person is reading."""
        return self._stream is not None and self._stream.isatty()

    @contextlib.contextmanager
    def _open(self) -> Iterator[TextIO]:
        if self._stream is None:
            raise InputError("cannot write the answer: stdout is closed")
        try:
            yield self._stream
        except OSError as error:
            # Python would try, and complain, once more while shutting down.
            os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())
            if isinstance(error, BrokenPipeError):
                raise SystemExit(PIPE_CLOSED) from error
            raise InputError(f"cannot write the answer: {error.strerror}") from error
