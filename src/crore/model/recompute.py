"""Recompute: what a block drops after its forward pass and makes again in the backward.

The modes are those of `cost.layout.RECOMPUTE`; applied from outside, by wrapping a block's forward.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

from torch import Tensor
from torch.utils.checkpoint import (
    CheckpointPolicy,
    checkpoint,
    create_selective_checkpoint_contexts,
)

from crore.model.decoder import Decoder
from crore.model.private import CORES, PRODUCTS
from crore.model.split import Split

Policy = Callable[..., CheckpointPolicy]


def is_message(op: Any) -> bool:
    """Return whether an operation sends, and returns what arrives.

    Those that write into a buffer (FSDP's gathers) are made again: what is kept is their result,
    and a block that runs anew has a new buffer.
    """
    return "c10d_functional" in str(op)


def light(ctx: Any, op: Any, *args: Any, **kwargs: Any) -> CheckpointPolicy:
    """Keep products and attention; redo norms, activations and the like."""
    del ctx, args, kwargs
    heavy = op in PRODUCTS or op in CORES or "crore" in str(op) or is_message(op)
    return CheckpointPolicy.MUST_SAVE if heavy else CheckpointPolicy.PREFER_RECOMPUTE


def selective() -> Policy:
    """Return a policy that keeps attention, messages and every second product."""
    seen = {False: 0, True: 0}

    def policy(ctx: Any, op: Any, *args: Any, **kwargs: Any) -> CheckpointPolicy:
        del args, kwargs
        again = bool(ctx.is_recompute)
        if op in PRODUCTS:
            seen[again] += 1
            keep = seen[again] % 2 == 0
        else:
            keep = op in CORES or is_message(op)
        return CheckpointPolicy.MUST_SAVE if keep else CheckpointPolicy.PREFER_RECOMPUTE

    return policy


def _contexts(mode: str) -> tuple[AbstractContextManager[Any], AbstractContextManager[Any]]:
    pair: tuple[AbstractContextManager[Any], AbstractContextManager[Any]]
    pair = create_selective_checkpoint_contexts(light if mode == "light" else selective())
    return pair


def apply_recompute(model: Decoder, split: Split) -> None:
    """Wrap the blocks that recompute: all, or the first `recompute_layers` of the rank's stage."""
    if split.recompute == "none":
        return
    blocks = list(model.layers.values())
    if split.recompute == "full" and split.recompute_layers:
        blocks = blocks[: -(-split.recompute_layers // split.chunks)]
    settings: dict[str, Any] = {"use_reentrant": False, "preserve_rng_state": False}
    if split.recompute != "full":
        settings["context_fn"] = partial(_contexts, split.recompute)
    for block in blocks:
        block.forward = _again(block.forward, settings)


def _again(run: Callable[[Tensor], Tensor], settings: dict[str, Any]) -> Callable[[Tensor], Tensor]:
    """Return a forward pass that is run again in the backward one.

    A function with a name of ours: torch.compile passes by a partial of torch's own.
    """

    def forward(x: Tensor) -> Tensor:
        out: Tensor = checkpoint(run, x, **settings)
        return out

    return forward
