"""What a checkpoint holds of one rank: weights, balances and optimizer state by their names."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from crore.model.initialise import canonical
from crore.train.engine import Engine
from crore.train.optim import Optimizer


def tensors_of(engine: Engine, optimizer: Optimizer) -> dict[str, Tensor]:
    """Return every tensor of a rank that training changes, named as in the whole model.

    Parts of a pipeline that share a table hold the same name.
    """
    found: dict[str, Tensor] = {}
    model = engine.parts[0]
    for part in engine.parts:
        for name, parameter in part.named_parameters():
            found[f"model.{canonical(name, model)}"] = parameter.detach()
        for name, buffer in part.named_buffers():
            if name.endswith(".balance"):
                found[f"model.{name}"] = buffer
    for name, state in optimizer.state_tensors().items():
        parameter_name, _, moment = name.rpartition(".")
        found[f"optimizer.{canonical(parameter_name, model)}.{moment}"] = state
    return found


def random_state() -> str:
    """Return torch's generator state as text; crore itself draws from counters alone."""
    return base64.b64encode(bytes(torch.get_rng_state().tolist())).decode()


def set_random_state(facts: Mapping[str, Any]) -> None:
    """Take up what `random_state` returned, where the facts hold it."""
    if "rng" in facts:
        state = torch.frombuffer(bytearray(base64.b64decode(facts["rng"])), dtype=torch.uint8)
        torch.set_rng_state(state)
