"""What the host adds beside the work: operations inside a model, FSDP's part of a message.

Both are measured on the trainer's own decoder, so narrow that its arithmetic takes no time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any, Final

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.fsdp import FSDPModule
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from crore.catalog import load_catalog
from crore.model.decoder import Decoder, build_decoder
from crore.model.initialise import initialise
from crore.model.loss import Loss
from crore.model.mesh import make_world
from crore.model.shard import apply_data_parallel
from crore.model.split import Split
from crore.train.calibrate.clock import Clock
from crore.train.calibrate.messages import together_s

SEQ_LEN: Final = 4
SAMPLES: Final = 12
MESSAGE_BYTES: Final = 4096


def measure_launch(clock: Clock) -> float:
    """Return host seconds of one operation that makes a tensor, forward or backward.

    Module calls and the making and walking of the graph are in it: they come with operations.
    """
    model = _narrow(clock.device)
    step = _step(model, clock.device)
    count = _Kernels()
    with count:
        step()
    return clock.seconds(step) / count.made


def measure_shard(device: str, settle: Callable[[], None]) -> float:
    """Return host seconds that FSDP2 adds to one gather or scatter, the message itself apart."""
    alone = together_s(_step(_narrow(device), device), SAMPLES, settle)
    split = Split(dp_shard=dist.get_world_size(), zero=3)
    world = make_world(split, torch.device(device))
    model = _narrow(device, sharded=lambda part: apply_data_parallel(part, world))
    together = together_s(_step(model, device), SAMPLES, settle)
    blocks = len(model.layers)
    # A block is gathered twice and scattered once, the root gathered and scattered.
    messages = 3 * blocks + 2
    part = torch.zeros(MESSAGE_BYTES // 4 // dist.get_world_size(), device=device)
    whole = torch.zeros(part.numel() * dist.get_world_size(), device=device)
    sent = together_s(lambda: dist.all_gather_single(whole, part), SAMPLES, settle)
    return max((together - alone) / messages - sent, 0.0)


def _narrow(device: str, sharded: Callable[[Decoder], None] | None = None) -> Decoder:
    spec = replace(
        load_catalog().model("nano-1m"),
        hidden=16,
        heads=2,
        kv_heads=2,
        head_dim=8,
        ffn=16,
        vocab=32,
    )
    model = build_decoder(spec, SEQ_LEN)
    if sharded is not None:
        sharded(model)
    model.to_empty(device=device)
    model.tie()
    initialise(model, seed=0)
    model.reset_positions(torch.arange(SEQ_LEN, device=device))
    assert sharded is None or isinstance(model, FSDPModule)
    return model


def _step(model: Decoder, device: str) -> Callable[[], None]:
    tokens, loss = torch.zeros(1, SEQ_LEN, dtype=torch.int64, device=device), Loss()

    def step() -> None:
        model.zero_grad()
        loss(model(tokens), tokens).backward()

    return step


class _Kernels(TorchDispatchMode):
    """Counts operations that make new memory; views of old memory cost next to nothing."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.made = 0

    def __torch_dispatch__(
        self, func: Any, types: Iterable[type], args: Any = (), kwargs: Any = None
    ) -> Any:
        """Run an operation, and count it where its result is not an argument's memory."""
        made = func(*args, **(kwargs or {}))
        old = {_memory(x) for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)}
        new = {_memory(x) for x in tree_leaves(made) if isinstance(x, Tensor)}
        self.made += bool(new - old)
        return made


def _memory(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()
