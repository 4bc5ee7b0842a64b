"""`crore train`: a plan is carried out on this machine, or as a rank of a world that is there."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from crore.cli.arguments import CatalogFile, file_name, optional_count
from crore.cli.request import Fix, GlobalBatch, Gpus, Precision, SeqLen, Target, Tokens
from crore.errors import InputError, UnknownName

if TYPE_CHECKING:
    from crore.catalog.types import ModelSpec
    from crore.train.settings import Options
    from crore.train.worker import Outcome

SCALES = ("full", "small")


def _path(flag: str, text: str) -> Any:
    return typer.Option(flag, metavar="PATH", parser=file_name, help=text)


def train(
    target: Target,
    out: Annotated[Path | None, _path("--out", "Folder of the run; runs/NAME if left out.")] = None,
    gpus: Gpus = None,
    fix: Fix = None,
    tokens: Tokens = None,
    steps: Annotated[
        str | None, typer.Option(metavar="N", help="Steps, instead of tokens.")
    ] = None,
    seq_len: SeqLen = None,
    global_batch: GlobalBatch = None,
    precision: Precision = None,
    scale: Annotated[
        str, typer.Option(metavar="S", help="small: the same architecture, cut to fit a CPU.")
    ] = "full",
    data: Annotated[
        str, typer.Option(metavar="W:PATH,…", help="Text to train on, mixed by weight.")
    ] = "python",
    tokenizer: Annotated[Path | None, _path("--tokenizer", "A tokenizer.json.")] = None,
    optimizer: Annotated[str, typer.Option(metavar="O", help="adamw or muon.")] = "adamw",
    lr: Annotated[float | None, typer.Option(metavar="R", help="Peak learning rate.")] = None,
    schedule: Annotated[str, typer.Option(metavar="S", help="wsd, wsd-linear or cosine.")] = "wsd",
    warmup: Annotated[str | None, typer.Option(metavar="N", help="Steps of warm-up.")] = None,
    ramp: Annotated[
        str, typer.Option(metavar="B:I:N", help="Batch ramp: start:increment:samples.")
    ] = "",
    seed: Annotated[int, typer.Option(metavar="N", min=0, help="Of weights and order.")] = 0,
    evaluate_every: Annotated[str | None, typer.Option(metavar="N", help="Steps.")] = None,
    checkpoint_every: Annotated[str | None, typer.Option(metavar="N", help="Steps.")] = None,
    sample_every: Annotated[str | None, typer.Option(metavar="N", help="Steps.")] = None,
    keep: Annotated[int, typer.Option(metavar="K", min=1, help="Checkpoints kept.")] = 3,
    prompt: Annotated[
        str, typer.Option(metavar="TEXT", help="What samples go on from.")
    ] = "Return the ",
    z_loss: Annotated[
        float, typer.Option(metavar="W", min=0, help="Weight of the head's z-loss.")
    ] = 0.0,
    compile_blocks: Annotated[
        bool, typer.Option("--compile", help="torch.compile each block.")
    ] = False,
    mtp: Annotated[bool, typer.Option("--mtp", help="Train multi-token prediction too.")] = False,
    ring: Annotated[
        bool, typer.Option("--ring", help="Context parallelism in a ring (CUDA).")
    ] = False,
    profile: Annotated[bool, typer.Option("--profile", help="Write a Chrome trace.")] = False,
    log: Annotated[str | None, typer.Option(metavar="NAMES", help="tensorboard, trackio.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print nothing while it runs.")] = False,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Begin anew; delete the run that is there.")
    ] = False,
    device: Annotated[str, typer.Option(metavar="D", help="cpu or cuda.")] = "",
    port: Annotated[
        int, typer.Option(metavar="P", min=0, max=65535, help="Of the rendezvous; free one if 0.")
    ] = 0,
    hang_after: Annotated[
        float, typer.Option(metavar="S", min=1, help="Seconds without progress.")
    ] = 600.0,
    threads: Annotated[int, typer.Option(metavar="N", min=0, help="CPU threads of a rank.")] = 0,
    cache: Annotated[Path | None, _path("--cache", "Folder of prepared data.")] = None,
    catalog: CatalogFile = None,
) -> None:
    """Train: carry out a plan here, with checkpoints; resumes by default.

    crore train this_machine --gpus 2 --tokens 2M

    Under torchrun or srun each process is a rank. Ctrl-C saves a checkpoint and leaves.
    """
    _need_torch()
    from crore.train.settings import Options, default_cache

    folder = out or Path("runs") / Path(target).stem
    options = Options(
        folder=folder, cache=cache or default_cache(), data=data, tokenizer=tokenizer,
        device=_device_name(device), steps=optional_count(steps, "--steps"), optimizer=optimizer,
        lr=lr, schedule=schedule, warmup=optional_count(warmup, "--warmup"), ramp=ramp, seed=seed,
        evaluate_every=optional_count(evaluate_every, "--evaluate-every"),
        checkpoint_every=optional_count(checkpoint_every, "--checkpoint-every"),
        sample_every=optional_count(sample_every, "--sample-every"), keep=keep, prompt=prompt,
        z_weight=z_loss, compiled=compile_blocks, mtp=mtp, ring=ring, profile=profile,
        loggers=tuple(filter(None, (log or "").split(","))), quiet=quiet, hang_s=hang_after,
        threads=threads,
    )  # fmt: skip
    given = {
        "gpus": gpus, "fix": fix, "tokens": tokens, "seq_len": seq_len,
        "global_batch": global_batch, "precision": precision, "catalog": catalog,
    }  # fmt: skip
    outcome = _carry_out(target, _scale(scale), given, options, fresh=fresh, port=port)
    if outcome.message and outcome.exit_code:
        typer.echo(f"crore: {outcome.message}", err=True)
    if outcome.exit_code:
        raise typer.Exit(outcome.exit_code)


def _need_torch() -> None:
    from importlib.util import find_spec

    for package in ("torch", "tokenizers"):
        if find_spec(package) is None:
            raise InputError(
                f"crore train needs {package}: pip install torch==2.13.0 (a CUDA build: see the "
                "README), then pip install 'crore[train]'"
            )


def _device_name(device: str) -> str:
    import torch

    if device not in ("", "cpu", "cuda"):
        raise UnknownName("device", device, ("cpu", "cuda"))
    if device == "cuda" and not torch.cuda.is_available():
        raise InputError(
            "--device cuda: torch sees no CUDA card here; leave it out to train on a CPU"
        )
    return device


def _scale(scale: str) -> str:
    if scale not in SCALES:
        raise UnknownName("scale", scale, SCALES)
    return scale


def _carry_out(
    target: str, scale: str, given: dict[str, Any], options: "Options", *, fresh: bool, port: int
) -> "Outcome":
    from dataclasses import replace

    from crore.cli.document import command_line
    from crore.cli.planned import plan_of
    from crore.cli.preparing import prepared
    from crore.train.folder import own
    from crore.train.settings import job_of
    from crore.train.start import start
    from crore.train.world import is_first

    with own(options.folder, fresh=fresh):
        planned = plan_of(target, given, options.folder, small=scale == "small")
        job, derived = job_of(
            planned.body, planned.spec, planned.catalog, replace(options, command=command_line())
        )
        planned.write(options.folder / "plan.json")
        if not options.quiet and is_first():
            for line in (*planned.notes, *derived):
                typer.echo(line)
        prepared(job)
        return start(job, port=port)
