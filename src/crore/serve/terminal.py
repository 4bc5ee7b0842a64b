"""The terminal side of a chat: lines in, answers out as they come."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from crore.errors import CroreError, InputError
from crore.io import cache_folder, exists
from crore.serve.chat import Conversation
from crore.serve.engine import Piece

PROMPT: Final = "> "
HELP: Final = (
    "/reset begins anew, /save FILE keeps the conversation, /exit or Ctrl-D leaves; "
    "Ctrl-C stops an answer"
)
LINES_FILE: Final = "chat_lines"
"""In crore's cache: what was typed, for the arrow keys of the next chat."""
LINES: Final = 1000


def talk(conversation: Conversation, say: Callable[[str], None]) -> None:
    """Read questions until the user leaves; `say` prints text as it is, without a line end.

    An answer that fails is said and the chat goes on.
    """
    with _line_history():
        for line in _lines(say):
            if line.startswith("/"):
                if not _command(conversation, line, say):
                    return
            elif line:
                _answer(conversation, line, say)


def _lines(say: Callable[[str], None]) -> Iterator[str]:
    """Yield stripped lines until the end of input; Ctrl-C at the prompt only drops the line."""
    while True:
        try:
            # Python edits lines (arrows, history) only when it meets the terminal itself.
            with contextlib.redirect_stdout(sys.__stdout__):
                line = input(PROMPT if sys.stdin.isatty() else "")
        except KeyboardInterrupt:
            say(f"\n({HELP})\n")
        except EOFError:
            say("\n" if sys.stdin.isatty() else "")
            return
        else:
            yield line.strip()


def _command(conversation: Conversation, line: str, say: Callable[[str], None]) -> bool:
    """Carry out a /command; False when it is to leave."""
    word, _, rest = line.partition(" ")
    if word in ("/exit", "/quit", "/bye"):
        return False
    if word == "/reset":
        conversation.reset()
        say("(a new conversation)\n")
    elif word == "/save":
        _said(say, lambda: _save(conversation, rest.strip()))
    else:
        say(f"({HELP})\n")
    return True


def _save(conversation: Conversation, name: str) -> str:
    if not name:
        raise InputError("/save needs the name of a file")
    path = Path(name).expanduser()
    if exists(path):
        raise InputError(f"{name[:80]} is there already: give another name")
    conversation.save(path)
    return f"({len(conversation.said)} messages in {name})\n"


def _answer(conversation: Conversation, question: str, say: Callable[[str], None]) -> None:
    last = Piece()
    before = conversation.forgotten
    try:
        for piece in conversation.ask(question):
            say(piece.text)
            last = piece
    except KeyboardInterrupt:
        say("\n(stopped)\n")
        return
    except CroreError as error:
        say(f"({error})\n")
        return
    say(f"\n{_ending(conversation, last, before)}")


def _ending(conversation: Conversation, last: Piece, before: int) -> str:
    """Return the line under an answer: how fast it came, and what is no longer sent."""
    forgot = conversation.forgotten - before
    dropped = f"; the {forgot} oldest messages no longer fit and are left out" if forgot else ""
    return f"({last.tokens} tokens, {last.tokens_per_s:.0f} tokens/s{dropped})\n"


def _said(say: Callable[[str], None], act: Callable[[], str]) -> None:
    try:
        say(act())
    except CroreError as error:
        say(f"({error})\n")


@contextlib.contextmanager
def _line_history() -> Iterator[None]:
    """Give the arrow keys what was typed before, here and in earlier chats."""
    if not sys.stdin.isatty():
        yield
        return
    try:
        import readline
    except ImportError:  # not on every system
        yield
        return
    path = cache_folder() / LINES_FILE
    readline.set_history_length(LINES)
    with contextlib.suppress(OSError):  # there is none yet, or it cannot be read
        readline.read_history_file(path)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # a home that cannot be written costs the history only
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch(mode=0o600)
            readline.write_history_file(path)
