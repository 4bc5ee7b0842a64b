"""One world's model and how it is run: forward, backward, evaluation, next-token logits.

B: sequences of this rank, S: tokens of a sequence.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor

from crore.catalog.types import ModelSpec
from crore.model.initialise import TIED, canonical
from crore.model.loss import Loss
from crore.model.mesh import World
from crore.model.mixture import mixtures
from crore.model.parallelize import BuildOptions, build_parts, finish_gradients
from crore.model.stages import Schedule, make_schedule


class Engine:
    """The parts of a model on one rank, with the schedule that runs them.

    Gradients are sums over ranks and micro-batches of a loss that is scaled by the tokens of the
    global batch, so that the result is the gradient of the batch's mean loss.
    """

    def __init__(
        self, spec: ModelSpec, seq_len: int, world: World, options: BuildOptions, *,
        global_batch: int, z_weight: float = 0.0, router_z_weight: float = 0.0,
    ) -> None:  # fmt: skip
        self.world, self.spec, self.seq_len = world, spec, seq_len
        self.parts = build_parts(spec, seq_len, world, options)
        self.router_z_weight = router_z_weight
        self.global_batch = self.whole = global_batch
        self._loads: Tensor | None = None
        part = -(-spec.vocab // world.split.tp)
        self.loss = Loss(z_weight=z_weight, group=world.group("tp"), first=world.tp_rank * part)
        self.schedule: Schedule | None = None
        self.resize(global_batch)

    def resize(self, global_batch: int, whole: int | None = None) -> None:
        """Make ready for steps of another batch (sequences of this world).

        `whole` are those of all worlds of a step, over which the loss is the mean.
        """
        self.whole = whole or global_batch
        if self.global_batch == global_batch and self.schedule is not None:
            return
        self.global_batch = global_batch
        self.micro_batches = self.world.split.micro_batches(global_batch)
        if self.world.split.pp > 1:
            self.schedule = make_schedule(
                self.parts, self.world, micro_batches=self.micro_batches, loss=self.loss
            )

    @property
    def rows(self) -> slice:
        """The rows of a global batch that this rank is given."""
        own = self.global_batch // self.world.split.dp
        return slice(self.world.dp_rank * own, (self.world.dp_rank + 1) * own)

    @property
    def first(self) -> bool:
        """Whether this rank reads tokens."""
        return any(part.embedding is not None for part in self.parts)

    @property
    def last(self) -> bool:
        """Whether this rank computes the loss."""
        return any(part.head is not None for part in self.parts)

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Yield this rank's parameters by their names in the whole model.

        A tied head goes by the embedding's, so that both copies decay, and are saved, alike.
        """
        for part in self.parts:
            for name, parameter in part.named_parameters():
                yield canonical(name, part), parameter

    def copies(self) -> dict[str, int]:
        """Return the parameters that several pipeline ranks hold, with how many do."""
        return {TIED: 2} if self.world.tied is not None else {}

    def _own_tokens(self, samples: Tensor) -> tuple[Tensor, Tensor]:
        """Split samples [B, S + 1] into inputs and targets [B, S / cp] of this context rank."""
        length = self.seq_len // self.world.split.cp
        first = self.world.cp_rank * length
        samples = samples.to(self.world.device, non_blocking=True)
        inputs = samples[:, first : first + length].clamp(min=0)  # below 0: a row to leave out
        return inputs.contiguous(), samples[:, first + 1 : first + length + 1].contiguous()

    def backward(self, samples: Tensor) -> None:
        """Run forward and backward over this rank's samples [B, S + 1] of one step."""
        self._mode(training=True)
        tokens = self.whole * self.seq_len
        self.loss.reset(tokens)
        for part in self.parts:
            for mixture in mixtures(part):
                mixture.z_scale = self.router_z_weight / tokens
        inputs, targets = self._own_tokens(samples)
        if self.schedule is not None:
            self._run_schedule(inputs, targets)
        else:
            self._run_alone(inputs, targets)
        self._finish()

    def _run_schedule(self, inputs: Tensor, targets: Tensor, *, evaluate: bool = False) -> None:
        assert self.schedule is not None
        given = (inputs,) if self.first else ()
        run = self.schedule.eval if evaluate else self.schedule.step
        losses: list[Tensor] | None = [] if self.last else None
        # What is returned is kept until the end: the logits of every micro-batch.
        kept: dict[str, Any] = {} if evaluate else {"return_outputs": False}
        run(*given, target=targets if self.last else None, losses=losses, **kept)

    def _run_alone(self, inputs: Tensor, targets: Tensor) -> None:
        model, size = self.parts[0], self.world.split.micro_batch
        pairs = list(zip(inputs.split(size), targets.split(size), strict=True))
        for number, (x, y) in enumerate(pairs, start=1):
            self._reduce_now(number == len(pairs))
            self.loss(model(x), y).backward()

    def _reduce_now(self, last: bool) -> None:
        """Below ZeRO-2, gradients stay whole until the last micro-batch of a step."""
        model = self.parts[0]
        if isinstance(model, FSDPModule) and self.world.split.zero < 2:
            model.set_requires_gradient_sync(last)

    def _finish(self) -> None:
        finish_gradients(parameter for _, parameter in self.named_parameters())
        if self.world.tied is not None and (self.first or self.last):
            table = dict(self.named_parameters())[TIED]
            if table.grad is not None:
                grad = table.grad.to_local() if isinstance(table.grad, DTensor) else table.grad
                dist.all_reduce(grad, group=self.world.tied)

    def nats(self) -> Tensor:
        """Return this rank's share of the cross-entropy of the last step, summed over tokens."""
        return self.loss.total / self.world.split.tp

    def rest(self) -> None:
        """Take a step without samples: other worlds have them all."""
        self.loss.reset(self.whole * self.seq_len)

    def sum_load(self) -> Tensor | None:
        """Add up the experts' tokens since the last step over the world; None without experts.

        A row per layer of experts; what is done to it before `rebalance` counts.
        """
        layers = [mixture for part in self.parts for mixture in mixtures(part)]
        if not layers:
            return None
        self._loads = torch.stack([layer.load for layer in layers])
        for axis in ("dp_replicate", "fsdp", "tp"):
            group = self.world.group(axis)
            if group is not None:
                dist.all_reduce(self._loads, group=group)
        return self._loads

    def rebalance(self) -> None:
        """Move the routers' biases by the load that `sum_load` returned."""
        layers = [mixture for part in self.parts for mixture in mixtures(part)]
        if not layers:
            return
        assert self._loads is not None
        for layer, load in zip(layers, self._loads, strict=True):
            layer.load.copy_(load)
            layer.rebalance()

    def forget_load(self) -> None:
        """Leave the last step's tokens out of the balance of experts, as its update is left out."""
        for part in self.parts:
            for layer in mixtures(part):
                layer.load.zero_()

    @torch.no_grad()
    def evaluate(self, samples: Tensor) -> float:
        """Return this rank's share of the nats of its samples [B, S + 1]; all ranks' are the sum.

        B is what a step has. Rows below 0 are left out.
        """
        self._mode(training=False)
        self.loss.reset(1)
        inputs, targets = self._own_tokens(samples)
        if self.schedule is not None:
            self._run_schedule(inputs, targets, evaluate=True)
        else:
            size = self.world.split.micro_batch
            for x, y in zip(inputs.split(size), targets.split(size), strict=True):
                self.loss(self.parts[0](x), y)
        self._let_go()
        return float(self.loss.total) / self.world.split.tp

    @torch.no_grad()
    def logits(self, tokens: Tensor) -> Tensor | None:
        """Return this rank's logits [1, S / cp, V / tp] of one sequence [1, S].

        None on a rank of a pipeline without the head. Every rank must call it.
        """
        self._mode(training=False)
        inputs, _ = self._own_tokens(tokens)
        if self.schedule is None:
            out: Tensor = self.parts[0](inputs)
            self._let_go()
            return out
        rows = inputs.expand(self.micro_batches * self.world.split.micro_batch, -1).contiguous()
        given = (rows,) if self.first else ()
        # A schedule that has a loss computes it, so it must be given something to hold against.
        done = self.schedule.eval(*given, target=rows if self.last else None)
        self._let_go()
        return done[:1] if self.last else None

    def _let_go(self) -> None:
        """Free whole weights that a forward pass without a backward leaves: they would be stale."""
        for part in self.parts:
            for module in part.modules():
                if isinstance(module, FSDPModule):
                    module.reshard()

    def _mode(self, *, training: bool) -> None:
        for part in self.parts:
            part.train(training)
