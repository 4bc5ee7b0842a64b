"""`crore tune`: teach a model to answer, then which answers are liked."""

import shutil
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from crore.cli.arguments import AsJson, file_name
from crore.cli.document import dumped
from crore.cli.needs import need_torch
from crore.cli.progress import steps as progress

if TYPE_CHECKING:
    from crore.train.tune import Outcome, Tuning
    from crore.train.tune.settings import Method, Stage
    from crore.train.tune.task import TaskOf

SCHEMA_VERSION = 1
BASE = "base"
"""Folder of the model that is tuned, in the run's."""
CONFIG = "config.json"
Model = Annotated[
    str | None,
    typer.Argument(
        metavar="RUN|MODEL",
        help="A run, a Hugging Face folder, a .gguf file; smollm2-135m-instruct if left out.",
    ),
]
Stage_ = Annotated[
    str, typer.Option("--stage", metavar="S", help="sft: conversations; dpo: preferences.")
]
Method_ = Annotated[
    str, typer.Option("--method", metavar="M", help="full, lora or qlora (weights in 4 bits).")
]
Data = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE", parser=file_name,
        help="JSONL: messages (OpenAI), conversations (ShareGPT); dpo: prompt, chosen, rejected.",
    ),
]  # fmt: skip
Out = Annotated[
    Path | None, typer.Option("--out", "-o", metavar="DIR", parser=file_name, help="What it makes.")
]
Rate = Annotated[float | None, typer.Option("--lr", metavar="X", help="Highest learning rate.")]
Epochs = Annotated[float, typer.Option(metavar="N", help="Passes over the data, at most.")]
Steps = Annotated[int | None, typer.Option(metavar="N", help="Steps, at most.")]
Rows = Annotated[int, typer.Option(metavar="N", help="Rows, or pairs, of a step.")]
SeqLen = Annotated[int, typer.Option(metavar="N", help="Tokens of a row.")]
Rank = Annotated[int, typer.Option(metavar="R", help="Of the adapters.")]
Beta = Annotated[float, typer.Option(metavar="B", help="Of preferences: how near it stays.")]
Every = Annotated[int, typer.Option("--evaluate-every", metavar="N", help="Steps.")]
Patience = Annotated[
    int, typer.Option(metavar="N", help="Evaluations without gain, then it stops.")
]
Seed = Annotated[int, typer.Option(metavar="N", help="Of adapters and order.")]
Threads = Annotated[int, typer.Option(metavar="N", help="CPU threads; as torch has it if 0.")]
Device = Annotated[str, typer.Option(metavar="D", help="cuda or cpu.")]
Fresh = Annotated[bool, typer.Option("--fresh", help="Begin anew.")]


def tune(
    model: Model = None, stage: Stage_ = "sft", method: Method_ = "lora", data: Data = None,
    out: Out = None, lr: Rate = None, epochs: Epochs = 3.0, steps: Steps = None, rows: Rows = 8,
    seq_len: SeqLen = 256, rank: Rank = 16, beta: Beta = 0.1, evaluate_every: Every = 25,
    patience: Patience = 3, seed: Seed = 0, threads: Threads = 0, device: Device = "",
    fresh: Fresh = False, as_json: AsJson = False,
) -> None:  # fmt: skip
    """Teach a model to answer, then which answers are liked.

    crore tune runs/this_machine --method full

    The same command goes on after a Ctrl-C or a crash. Held-out questions decide when it stops.
    """
    need_torch("tune")
    from crore.train.folder import own
    from crore.train.tune import Tuning
    from crore.train.tune import tune as carry_out
    from crore.train.tune.models import check_installed
    from crore.train.world import check_device

    folder = out or Path("runs") / f"{_name(model)}-{stage}"
    tuning = Tuning(
        folder=folder, base=folder / BASE, stage=cast("Stage", stage),
        method=cast("Method", method), lr=lr, epochs=epochs, steps=steps, rows=rows,
        seq_len=seq_len, rank=rank, beta=beta, evaluate_every=evaluate_every, patience=patience,
        seed=seed, device=device, threads=threads,
    )  # fmt: skip
    check_device(device)
    check_installed(tuning.method)
    task_of = _task_of(tuning, data)
    with own(folder, fresh=False):
        if fresh:
            _clear(folder)
        with progress("tuning") as watch:
            tuning = replace(tuning, base=_base(model, tuning.base))
            outcome = carry_out(tuning, task_of, watch)
    body = _record(outcome, tuning)
    typer.echo(dumped("tune", SCHEMA_VERSION, body) if as_json else _said(outcome, tuning))
    if outcome.exit_code:
        raise typer.Exit(outcome.exit_code)


def _name(model: str | None) -> str:
    from crore.serve.models import PACKAGED

    return Path(model or PACKAGED).stem


def _task_of(tuning: "Tuning", data: Path | None) -> "TaskOf":
    """Return what makes the task of a tokenizer; the data is read now, so faults are said now."""
    from crore.train.tune import read_conversations, read_pairs
    from crore.train.tune.corpus import default_conversations, pairs_of
    from crore.train.tune.task import Answers, Preferences

    if tuning.stage == "sft":
        told = read_conversations(data) if data else default_conversations()
        return lambda tokenizer: Answers(tokenizer, told, tuning)
    pairs = read_pairs(data) if data else pairs_of(default_conversations(), tuning.seed)
    return lambda tokenizer: Preferences(tokenizer, pairs, tuning)


def _base(model: str | None, folder: Path) -> Path:
    """Return the model to begin with in Hugging Face's layout; made in `folder` if it is not."""
    if model is not None and Path(model, CONFIG).is_file():
        return Path(model)
    if (folder / CONFIG).is_file():
        return folder
    draft = folder.with_suffix(".draft")
    shutil.rmtree(draft, ignore_errors=True)
    if model is not None and Path(model).is_dir():
        from crore.cli.exported import opened
        from crore.serve.export import export_hf

        with opened(Path(model)) as found:
            export_hf(found, draft, "f32")
    else:
        from crore.serve.models import find_model
        from crore.train.tune.models import unpacked

        unpacked(find_model(model).path, draft)
    draft.rename(folder)
    return folder


def _clear(folder: Path) -> None:
    """Remove what a tuning run wrote."""
    from crore.train.tune.loop import BEST, LOG, STATE

    for name in (BASE, f"{BASE}.draft", "adapter"):
        shutil.rmtree(folder / name, ignore_errors=True)
    for path in (*(folder / name for name in (STATE, BEST, LOG, CONFIG)),
                 *folder.glob("model*.safetensors*")):  # fmt: skip
        path.unlink(missing_ok=True)


def _record(outcome: "Outcome", tuning: "Tuning") -> dict[str, object]:
    return {
        "stage": tuning.stage, "method": tuning.method, "folder": str(tuning.folder),
        "reason": outcome.reason, "steps": outcome.steps, "best_step": outcome.best_step,
        "before": asdict(outcome.before), "after": asdict(outcome.after),
    }  # fmt: skip


def _said(outcome: "Outcome", tuning: "Tuning") -> str:
    before, after = outcome.before, outcome.after
    ends = {
        "finished": f"finished after {outcome.steps:,} steps",
        "stopped": f"stopped after {outcome.steps:,} steps: held-out loss no longer falls",
        "signal": f"left after {outcome.steps:,} steps: the same command goes on",
    }
    lines = [f"{tuning.stage} by {tuning.method} {ends[outcome.reason]}"]
    if before.margin is None:
        lines.append(
            f"held-out answers {before.loss:.3f} -> {after.loss:.3f} nats a token "
            f"({after.loss / before.loss - 1:+.1%}), best at step {outcome.best_step:,}"
        )
    else:
        lines.append(
            f"held-out pairs: margin {before.margin:+.2f} -> {after.margin:+.2f} nats, chosen "
            f"likelier in {before.right:.0%} -> {after.right:.0%}, best at {outcome.best_step:,}"
        )
    if outcome.reason != "signal":
        lines.append(
            f"{tuning.folder}: a Hugging Face model; talk to it: crore chat {tuning.folder}"
        )
    return "\n".join(lines)
