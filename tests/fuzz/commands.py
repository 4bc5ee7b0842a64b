"""Random command lines of every verb: flags and values sound, missing, misspelt; files swapped."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Final

from tests.fuzz import words
from tests.fuzz.missions import mission_of

FLAGS: Final = ("gpu", "gpus", "cluster", "fabric", "tokens", "seq_len", "global_batch",
                "precision", "stack", "objective", "top")  # fmt: skip
NUMBERS: Final = (
    "days", "step_time_s", "step_split_s.tp", "memory_split_bytes.weights", "mfu", "layout.tp",
    "economy.usd", "goodput", "usd", "risk", "days.low", "step_split_s", "nothing", "",
)  # fmt: skip
VERBS: Final = ("plan", "compare", "explain", "check", "fit", "validate", "catalog")


def line_of(rng: Random, folder: Path, sound_plan: str) -> list[str]:
    """Return a command line; the files it names are made in `folder`."""
    verb = rng.choice(VERBS)
    files = _files(rng, folder, sound_plan)
    line = [verb, *_LINES[verb](rng, files)]
    if rng.random() < 0.15:
        line.append("--json")
    if rng.random() < 0.05:
        line += ["--catalog", rng.choice(files)]
    if rng.random() < 0.35:
        _spoil(rng, line, files)
    return line


def _files(rng: Random, folder: Path, sound_plan: str) -> list[str]:
    """Make files of every kind, right and wrong for any argument; return their paths."""
    cut = rng.randrange(len(sound_plan))
    number = sound_plan.find(": 1", cut) + 2
    contents = {
        "plan.json": sound_plan,
        "cut.json": sound_plan[:cut],
        "odd.json": sound_plan[:number]
        + rng.choice(("-1", "null", "[]"))
        + sound_plan[number + 1 :],
        "newer.json": sound_plan.replace("crore.plan/", "crore.plan/9"),
        "config.json": '{"model_type": "llama", "hidden_size": 4096, "num_hidden_layers": 32, '
        '"num_attention_heads": 32, "intermediate_size": 11008, "vocab_size": 32000}',
        "empty.toml": "",
        "empty.jsonl": "",
        "list.json": "[1, 2]",
        "runs.jsonl": '{"id": "a", "model": "gpt2-124m", "gpu": "rtx-3090", "gpus": 1, '
        '"seq_len": 1024, "global_batch": 8, "micro_batch": 8, "step_time_s": 1.0}\n',
        "mine.toml": '[models.tiny]\nlayers = 2\n[accelerators.x]\nmemory_bytes = "24 GB"\n',
    }
    for name, text in contents.items():
        (folder / name).write_text(text, encoding="utf-8")
    (folder / "mission.toml").write_bytes(mission_of(rng))
    (folder / "latin.toml").write_bytes("model = 'é'".encode("latin-1"))
    (folder / "folder.toml").mkdir()
    made = [*contents, "mission.toml", "latin.toml", "folder.toml"]
    return [*(str(folder / name) for name in made), "/dev/null", str(folder), "missing.json"]


def _target(rng: Random, files: list[str]) -> str:
    return rng.choice((rng.choice(words.MODELS), rng.choice(words.MISSIONS), files[-6],
                       rng.choice(files), files[0]))  # fmt: skip


def _flags(rng: Random, names: tuple[str, ...] = FLAGS) -> list[str]:
    line: list[str] = []
    for name in names:
        if rng.random() < (0.8 if name in ("gpu", "gpus") else 0.12):
            value = words.choice_of(rng, name)
            text = words.typed(rng, value) if isinstance(value, int) else str(value)
            line += [f"--{name.replace('_', '-')}", text]
    return line


def _laid_out(rng: Random) -> list[str]:
    line = []
    if rng.random() < 0.25:
        line += ["--fix", ",".join(f"{k}={v}" for k, v in words.pins(rng).items())]
    if rng.random() < 0.25:
        line += ["--limit", ",".join(f"{k}={v}" for k, v in words.limits(rng).items())]
    return line


def _plan(rng: Random, files: list[str]) -> list[str]:
    return [_target(rng, files), *_flags(rng), *_laid_out(rng)]


def _compare(rng: Random, files: list[str]) -> list[str]:
    targets = []
    for _ in range(rng.choice((1, 2, 2, 2, 3))):
        target = _target(rng, files)
        if rng.random() < 0.4:
            own = rng.choice(
                ("gpus=8k", "gpu=h200-sxm", "tp=8", "tp=", "nope=1", "days=90", "power=1")
            )
            target = f"{target}:{own}"
        targets.append(target)
    return [*targets, *_flags(rng, FLAGS[:-1]), *_laid_out(rng)]


def _explain(rng: Random, files: list[str]) -> list[str]:
    return [rng.choice((files[0], rng.choice(files))), *rng.sample(NUMBERS, rng.randrange(2))]


def _check(rng: Random, files: list[str]) -> list[str]:
    return [rng.choice((files[-6], rng.choice(words.MISSIONS), rng.choice(files)))]


def _fit(rng: Random, files: list[str]) -> list[str]:
    line = [_target(rng, files), *_flags(rng, ("gpu",))]
    if rng.random() < 0.5:
        line += ["--gpus", rng.choice(("1", "4", "7", "1k", "10M"))]
    if rng.random() < 0.4:
        line += ["--context", str(words.sequence(rng))]
    return line


def _validate(rng: Random, files: list[str]) -> list[str]:
    return [rng.choice((files[8], rng.choice(files)))]


def _catalog(rng: Random, _files: list[str]) -> list[str]:
    kinds = {"gpus": words.GPUS, "models": words.MODELS, "fabrics": words.FABRICS,
             "clusters": words.CLUSTERS}  # fmt: skip
    kind = rng.choice([*kinds])
    return [kind, *rng.sample(kinds[rng.choice((kind, kind, "gpus"))], rng.randrange(2))]


_LINES: Final[dict[str, Callable[[Random, list[str]], list[str]]]] = {
    "plan": _plan, "compare": _compare, "explain": _explain, "check": _check, "fit": _fit,
    "validate": _validate, "catalog": _catalog,
}  # fmt: skip


def _spoil(rng: Random, line: list[str], files: list[str]) -> None:
    """Lose, double, replace, misspell or add one word."""
    k = rng.randrange(len(line))
    how = rng.randrange(6)
    if how == 0:
        del line[k]
    elif how == 1:
        line.insert(k, line[k])
    elif how == 2:
        line[k] = rng.choice(words.JUNK)
    elif how == 3:
        line[k] = words.spoilt(rng, line[k])
    elif how == 4:
        line[k] = rng.choice(files)
    else:
        line.insert(
            k, rng.choice(("--fix", "--limit", "--top", "--help", "-o", "--nope", "-x", "8"))
        )
