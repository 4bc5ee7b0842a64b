"""`crore train`: a plan is carried out on this machine, or as a rank of a world that is there."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from crore.cli import train_flags as flags
from crore.cli.among import Among
from crore.cli.arguments import CatalogFile, optional_count
from crore.cli.document import command_line
from crore.cli.needs import need_torch
from crore.cli.request import Fix, GlobalBatch, Gpus, Limit, Precision, SeqLen, Target, Tokens
from crore.errors import CroreError, UnknownName

if TYPE_CHECKING:
    from crore.train.outcome import Outcome
    from crore.train.settings import Options

SCALES = ("full", "small")


def train(
    target: Target, out: flags.Out = None, gpus: Gpus = None, fix: Fix = None,
    tokens: Tokens = None, steps: flags.Steps = None, seq_len: SeqLen = None,
    global_batch: GlobalBatch = None, precision: Precision = None, scale: flags.Scale = "full",
    data: flags.Data = "python", tokenizer: flags.TokenizerFile = None,
    optimizer: flags.OptimizerName = "adamw", lr: flags.LearningRate = None,
    schedule: flags.ScheduleName = "wsd", warmup: flags.Warmup = None, ramp: flags.BatchRamp = "",
    seed: flags.Seed = 0, evaluate_every: flags.Cadence = None,
    checkpoint_every: flags.Cadence = None, sample_every: flags.Every = None, keep: flags.Keep = 3,
    prompt: flags.Prompt = "Return the ", z_loss: flags.ZLoss = 0.0,
    compile_blocks: flags.Compile = False, mtp: flags.Mtp = False, ring: flags.Ring = False,
    profile: flags.Profile = False, log: flags.Loggers = "", quiet: flags.Quiet = False,
    fresh: flags.Fresh = False, device: flags.Device = "", port: flags.Port = 0,
    hang_after: flags.HangAfter = 600.0, threads: flags.Threads = 0, cache: flags.Cache = None,
    limit: Limit = None, world: flags.World = None, lighthouse: flags.LighthouseAt = "",
    fleet: flags.FleetAt = "", spares: flags.Spares = 0,
    lost_worlds: flags.LostWorlds = "", outer: flags.OuterStep = None,
    grace: flags.Grace = 60.0, chaos: flags.Chaos = "",
    catalog: CatalogFile = None, help_all: flags.HelpAll = False,
) -> None:  # fmt: skip
    """Carry out a plan here; resumes where it stopped.

    crore train this_machine --gpus 2 --tokens 2M

    Under torchrun or srun each process is a rank. Ctrl-C saves a checkpoint and leaves.
    """
    del help_all  # its callback has answered
    need_torch("train")
    from crore.io import cache_folder
    from crore.train.settings import Options

    folder = out or Path("runs") / Path(target).stem
    _check_words(scale, optimizer, device, flags.names(log), folder)
    options = Options(
        folder=folder, cache=cache or cache_folder(), data=data, tokenizer=tokenizer,
        device=device, steps=optional_count(steps, "--steps"), optimizer=optimizer,
        lr=flags.positive(lr, "--lr"), schedule=schedule,
        warmup=flags.steps_or_never(warmup, "--warmup"), ramp=ramp, seed=seed,
        evaluate_every=flags.steps_or_never(evaluate_every, "--evaluate-every"),
        checkpoint_every=flags.steps_or_never(checkpoint_every, "--checkpoint-every"),
        sample_every=flags.steps_or_never(sample_every, "--sample-every"), keep=keep, prompt=prompt,
        z_weight=flags.finite(z_loss, "--z-loss"), compiled=compile_blocks, mtp=mtp, ring=ring,
        profile=profile, loggers=flags.names(log), quiet=quiet,
        hang_s=flags.finite(hang_after, "--hang-after"), threads=threads, command=command_line(),
        outer=flags.outer_step(outer),
    )  # fmt: skip
    given = {
        "gpus": gpus, "fix": fix, "tokens": tokens, "seq_len": seq_len,
        "global_batch": global_batch, "precision": precision, "catalog": catalog, "limit": limit,
    }  # fmt: skip
    fleet_of = Among(
        world=world, lighthouse=lighthouse, fleet=fleet, spares=spares, lost=lost_worlds,
        grace_s=grace, chaos=chaos, port=port,
    )  # fmt: skip
    outcome = _spoken_once(
        lambda: _carry_out(target, given, options, fleet_of, small=scale == "small", fresh=fresh)
    )
    if outcome.exit_code:
        raise typer.Exit(outcome.exit_code)


def _check_words(
    scale: str, optimizer: str, device: str, loggers: tuple[str, ...], folder: Path
) -> None:
    """Raise InputError for a name that no rank knows, before anything is planned or prepared."""
    from crore.train.adapters import make_adapters
    from crore.train.optim import OPTIMIZERS
    from crore.train.world import check_device

    if scale not in SCALES:
        raise UnknownName("scale", scale, SCALES)
    if optimizer not in OPTIMIZERS:
        raise UnknownName("optimizer", optimizer, OPTIMIZERS)
    check_device(device)
    make_adapters(loggers, folder, _silent)


def _spoken_once(carry_out: Callable[[], "Outcome"]) -> "Outcome":
    """Carry out, and say what went wrong once on each machine: the ranks of a world all know it."""
    from crore.train.world import speaks

    try:
        outcome = carry_out()
    except CroreError as error:
        if speaks():
            raise
        raise typer.Exit(error.exit_code) from error
    if outcome.reason in ("failed", "stopped") and speaks():
        typer.echo(f"crore: {outcome.message}", err=True)
    return outcome


def _carry_out(
    target: str, given: dict[str, Any], options: "Options", among: "Among", *, small: bool,
    fresh: bool,
) -> "Outcome":  # fmt: skip
    from crore.cli.planned import plan_of
    from crore.cli.preparing import prepared
    from crore.train.folder import PLAN, own
    from crore.train.outcome import Outcome
    from crore.train.resume import finished
    from crore.train.settings import job_of
    from crore.train.world import is_first, restarted

    fresh = fresh and not restarted() and among.world is None
    folder = among.folder(options.folder)
    with own(folder, fresh=fresh):
        planned = plan_of(target, _in_world(target, given), folder, small=small)
        job, derived = job_of(planned.body, planned.spec, planned.catalog, options)
        job = among.seated(job, planned.body)
        among.check(job, planned.body)
        tell = typer.echo if is_first() and not options.quiet else _silent
        for line in (*planned.notes, *derived):
            tell(line)
        done = among.done(job, planned.body, prepared(job))
        if is_first():  # not before it is known that this is the run that is there
            planned.write(folder / PLAN)
        if done >= job.steps:
            tell(finished(job, done))
            return Outcome(reason="finished", message="", exit_code=0)
        return among.start(job, planned.body)


def _silent(line: str) -> None:
    del line


def _in_world(target: str, given: dict[str, Any]) -> dict[str, Any]:
    """Return the flags, with the ranks of the world this process is in where none are asked."""
    import os

    from crore.train.world import membership

    who = membership(os.environ)
    if who is None or given["gpus"] is not None or target.endswith(".json"):
        return given
    return {**given, "gpus": str(who.ranks)}
