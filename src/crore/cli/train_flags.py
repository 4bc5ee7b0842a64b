"""The flags of `crore train` that no other command has, and what they turn into."""

import math
from pathlib import Path
from typing import Annotated, Any

import typer

from crore.cli.arguments import file_name, optional_count
from crore.errors import InputError, UnknownName


def _path(flag: str, text: str, **more: Any) -> Any:
    return typer.Option(flag, metavar="PATH", parser=file_name, help=text, **more)


def _option(metavar: str, text: str, **more: Any) -> Any:
    return typer.Option(metavar=metavar, help=text, **more)


Out = Annotated[Path | None, _path("--out", "Folder of the run; runs/NAME if left out.")]
Steps = Annotated[str | None, _option("N", "Steps, instead of tokens.")]
Scale = Annotated[str, _option("S", "small: the same architecture, cut to fit a CPU.")]
Data = Annotated[str, _option("W:PATH,…", "Text to train on, mixed by weight.")]
TokenizerFile = Annotated[Path | None, _path("--tokenizer", "A tokenizer.json.")]
OptimizerName = Annotated[str, _option("O", "adamw or muon.")]
LearningRate = Annotated[float | None, _option("R", "Peak learning rate.")]
ScheduleName = Annotated[str, _option("S", "wsd, wsd-linear or cosine.")]
Warmup = Annotated[str | None, _option("N", "Steps of warm-up.", hidden=True)]
BatchRamp = Annotated[str, _option("B:I:N", "Batch ramp: start:increment:samples.", hidden=True)]
Seed = Annotated[int, _option("N", "Of weights and order.", min=0)]
Cadence = Annotated[
    str | None,
    _option(
        "N",
        "Steps; 0 for never, the last step apart [default: a tenth of the run, at least 10].",
        hidden=True,
    ),
]
Every = Annotated[str | None, _option("N", "Steps; 0 for never, the last step apart.", hidden=True)]
Keep = Annotated[int, _option("K", "Checkpoints kept.", min=1, hidden=True)]
Prompt = Annotated[str, _option("TEXT", "What samples go on from.", hidden=True)]
ZLoss = Annotated[float, _option("W", "Weight of the head's z-loss.", min=0, hidden=True)]
Compile = Annotated[bool, typer.Option("--compile", help="torch.compile each block.")]
Mtp = Annotated[bool, typer.Option("--mtp", help="Train multi-token prediction too.", hidden=True)]
Ring = Annotated[
    bool, typer.Option("--ring", help="Context parallelism in a ring (CUDA).", hidden=True)
]
Profile = Annotated[bool, typer.Option("--profile", help="Write a Chrome trace.")]
Loggers = Annotated[str, _option("NAMES", "tensorboard, trackio.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="Print nothing while it runs.")]
Fresh = Annotated[bool, typer.Option("--fresh", help="Begin anew; delete the run that is there.")]
Device = Annotated[str, _option("D", "cpu or cuda.")]
Port = Annotated[
    int, _option("P", "Of the rendezvous; a free one if 0.", min=0, max=65535, hidden=True)
]
HangAfter = Annotated[
    float, _option("S", "Seconds without progress that end a rank.", min=1, hidden=True)
]
Threads = Annotated[int, _option("N", "CPU threads of a rank.", min=0, hidden=True)]
World = Annotated[
    int | None,
    _option("W", "This is world W of the plan's fleet, under its launcher.", min=0, hidden=True),
]
LighthouseAt = Annotated[
    str, _option("HOST:PORT", "Where the worlds of this island meet.", hidden=True)
]
FleetAt = Annotated[str, _option("HOST:PORT", "Where islands meet.", hidden=True)]
Spares = Annotated[int, _option("N", "Hot spares: worlds beyond the plan's.", min=0, hidden=True)]
LostWorlds = Annotated[
    str,
    _option("P", "keep-batch or scale-lr, when a world is lost; else as the mission.", hidden=True),
]
OuterStep = Annotated[
    str | None,
    _option("K=V,…", "Of islands: fragments, overlap, lr, momentum, mixing.", hidden=True),
]
Grace = Annotated[
    float, _option("S", "An outer step waits so long for late islands.", min=0, hidden=True)
]
Chaos = Annotated[str, _option("F=S,…", "Faults on purpose: kill=30,hang,slow,corrupt,lighthouse.")]
Cache = Annotated[Path | None, _path("--cache", "Folder of prepared data.", hidden=True)]


def _show_all(context: typer.Context, wanted: bool) -> None:
    """Print the help with the flags that `--help` leaves out."""
    if wanted:
        for parameter in context.command.params:
            setattr(parameter, "hidden", False)  # noqa: B010 - options alone have it
        typer.echo(context.get_help())
        raise typer.Exit


HelpAll = Annotated[
    bool,
    typer.Option("--help-all", is_eager=True, callback=_show_all, help="Show rarer options too."),
]


def steps_or_never(text: str | None, flag: str) -> int | None:
    """Parse a number of steps that may be 0, or be left out."""
    return 0 if text is not None and text.strip() == "0" else optional_count(text, flag)


def positive(value: float | None, flag: str) -> float | None:
    """Return a number that may be left out; raises InputError unless it is above 0 and finite."""
    if value is not None and not 0 < value < math.inf:
        raise InputError(f"{flag} must be a positive number, such as 3e-4, not {value:g}")
    return value


def finite(value: float, flag: str) -> float:
    """Return a number; raises InputError for infinity and for what is no number."""
    if not math.isfinite(value):
        raise InputError(f"{flag} must be a finite number, not {value}")
    return value


def names(text: str) -> tuple[str, ...]:
    """Return the names in `a,b`."""
    return tuple(filter(None, (name.strip() for name in text.split(","))))


def outer_step(text: str | None) -> dict[str, float]:
    """Return what `fragments=2,lr=0.5` asks of the outer step; InputError for what is none."""
    known = ("fragments", "overlap", "lr", "momentum", "mixing")
    found: dict[str, float] = {}
    for word in names(text or ""):
        key, _, value = word.partition("=")
        if key not in known:
            raise UnknownName("key of --outer", key, known)
        try:
            found[key] = float(value)
        except ValueError:
            found[key] = math.nan
        if not math.isfinite(found[key]) or found[key] < 0:
            raise InputError(f"--outer {word[:40]}: give a number of 0 or more, such as lr=0.7")
    return found
