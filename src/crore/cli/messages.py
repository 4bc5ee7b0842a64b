"""What a user reads on stderr: one line, at most 240 characters, that says what to type instead."""

from typing import Any

import typer

from crore.errors import MAX_MESSAGE_CHARS, nearest


def one_line(error: Exception, called: str) -> str:
    """Return the line for an error of crore's own tree or one of the command-line parser's.

    `called` is the command the user typed, whose help a parser's error points to.
    """
    text = _usage(error, called) if isinstance(error, typer.TyperException) else str(error)
    line = f"crore: {' '.join(text.split())}"
    return line if len(line) <= MAX_MESSAGE_CHARS else f"{line[: MAX_MESSAGE_CHARS - 1]}…"


def _usage(error: typer.TyperException, called: str) -> str:
    """Return the parser's message, with the nearest valid option or command and where all are."""
    context = getattr(error, "ctx", None)
    command = getattr(context, "command_path", called)  # some errors carry no context
    help_hint = f"(all: {command} --help)"
    option = getattr(error, "option_name", None)
    if option is not None and "No such option" in str(error):
        near = nearest(option, _options(context))
        hint = f"; did you mean {', '.join(near)}?" if near else ""
        return f"no option {option[:40]} for {command}{hint} {help_hint}"
    message = error.format_message()
    if message.startswith("No such command"):
        typed = message.split("'")[1]
        near = nearest(typed, getattr(getattr(context, "command", None), "commands", {}))
        hint = f"; did you mean {', '.join(near)}?" if near else ""
        return f"no command {typed[:40]!r}{hint} {help_hint}"
    return f"{message.rstrip('.')} {help_hint}"


def _options(context: Any) -> list[str]:
    """Return the long options of the command the user called."""
    parameters = context.command.params if context is not None else []
    return [name for p in parameters for name in p.opts if name.startswith("--")]
