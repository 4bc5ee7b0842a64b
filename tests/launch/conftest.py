"""Plans of every kind, made once; a launch of each with whatever a test changes."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from crore.catalog import load_catalog
from crore.cli import run
from crore.launch import Launch, launch_of

PLANS = {
    "dense": "llama-3.1-8b --gpu h100-sxm --gpus 64 --tokens 100B --stack crore",
    "405b": "llama3_405b",
    "experts": "deepseek_v3",
    "one card": "gpt2 --gpu rtx-3090 --gpus 1 --tokens 1B --stack crore",
    "fleet": "ten_million",
    "processor": "nano-1m --gpu cpu-2core --gpus 2 --tokens 10k --seq-len 256 --global-batch 8"
    " --precision fp32 --stack crore",
}
Make = Callable[..., Launch]


@pytest.fixture(scope="session")
def bodies(tmp_path_factory) -> dict[str, dict[str, Any]]:
    """Plan files, read."""
    folder = tmp_path_factory.mktemp("plans")
    found = {}
    for name, words in PLANS.items():
        path = folder / "plan.json"
        assert run(["plan", *words.split(), "-o", str(path)]) == 0
        found[name] = json.loads(path.read_text(encoding="utf-8"))
    return found


@pytest.fixture
def make(bodies) -> Make:
    """Return a launch of a plan, fields of its layout and model changed."""

    def made(plan: str, layout: dict[str, Any] | None = None, /, **spec: Any) -> Launch:
        launch = launch_of(bodies[plan], load_catalog())
        return replace(
            launch, layout=replace(launch.layout, **(layout or {})),
            spec=replace(launch.spec, **spec),
        )  # fmt: skip

    return made
