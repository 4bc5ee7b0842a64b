"""The command line: one Typer app whose commands import their rooms only when they run.

Nothing here may import NumPy or pydantic at module level: `crore --help` stays under 0.4 s of CPU
time (tests/test_first_contact.py).
"""

import contextlib
import sys
from collections.abc import Sequence

import typer

from crore import __version__
from crore.cli.answer import Answer
from crore.cli.calibrate import calibrate
from crore.cli.catalog import catalog
from crore.cli.chat import chat
from crore.cli.check import check
from crore.cli.compare import compare
from crore.cli.document import called_as
from crore.cli.explain import explain
from crore.cli.export import export
from crore.cli.fit import fit
from crore.cli.importing import import_
from crore.cli.launch import launch
from crore.cli.lighthouse import lighthouse
from crore.cli.messages import one_line
from crore.cli.plan import plan
from crore.cli.rehearse import rehearse
from crore.cli.replay import replay
from crore.cli.report import report
from crore.cli.serve import serve
from crore.cli.simulate import simulate
from crore.cli.sites import sites
from crore.cli.supply import supply
from crore.cli.train import train
from crore.cli.tune import tune
from crore.cli.validate import validate
from crore.errors import CroreError

__all__ = ["app", "run"]

app = typer.Typer(
    name="crore",
    add_completion=True,
    rich_markup_mode=None,  # plain help: no box drawing, and rich is not imported for it
    pretty_exceptions_enable=False,
    no_args_is_help=False,  # `run` turns an empty command line into --help
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"crore {__version__}")
        raise typer.Exit


@app.callback()
def crore(
    version: bool = typer.Option(
        False,
        "--version",
        callback=_show_version,
        is_eager=True,
        help="Print the version and leave.",
    ),
) -> None:
    """Plan language-model training on one GPU up to ten million.

    Start with: crore plan llama-3.1-405b --gpu h100-sxm --gpus 16384

    Every command reads files and prints its answer; --json prints the same as data.
    Exit codes: 0 the answer is there, 1 nothing fits (with the nearest miss), 2 bad input.
    """


_COMMANDS = {
    command.__name__.rstrip("_"): command
    for command in (
        plan,
        explain,
        compare,
        fit,
        simulate,
        supply,
        sites,
        rehearse,
        report,
        replay,
        train,
        tune,
        launch,
        lighthouse,
        export,
        import_,
        chat,
        serve,
        calibrate,
        check,
        validate,
        catalog,
    )
}
for _name, _command in _COMMANDS.items():
    app.command(_name)(_command)


def run(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit code; a user's mistake is one line on stderr."""
    words = list(arguments) or ["--help"]
    try:
        with contextlib.redirect_stdout(Answer(sys.stdout)), called_as(words):
            code = app(args=words, prog_name="crore", standalone_mode=False)
    except (CroreError, typer.TyperException) as error:
        called = f"crore {words[0]}" if words[0] in _COMMANDS else "crore"
        print(one_line(error, called), file=sys.stderr)
        return error.exit_code
    except typer.Abort:
        return 130
    except SystemExit as leave:  # the reader left; shell completion is done
        code = leave.code
    return code if isinstance(code, int) else 0
