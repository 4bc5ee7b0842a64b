"""The outer optimizer on one rank: the weights all islands share, and their momentum.

They lie in the host's memory: the card has no room for them, islands meet over the host's network,
and a step of SGD now and then is little work for a processor. Every tensor is the rank's own part.
A fragment is one flat fp32 vector of several parameters, each beginning with a block of its own: a
parameter that two ranks hold is rounded the same on both.
n: values of a fragment.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import torch
from torch import Tensor
from torch.optim.sgd import sgd

from crore.cost.islands import BLOCK_VALUES
from crore.train.islands.settings import Outer
from crore.train.local import local_part, place_like

STATES: Final = ("global", "momentum")
HOST: Final = torch.device("cpu")


def fragments_of(sizes: Mapping[str, int], fragments: int) -> list[list[str]]:
    """Return the names in each fragment: whole layers, dealt out by size, so layers in turn.

    `sizes` are values by name, in the model's order. With fewer layers than fragments some are
    empty. The same on every rank that holds the same names and sizes.
    """
    layers: dict[str, list[str]] = defaultdict(list)
    for name in sizes:
        found = re.match(r".*?\.\d+(?=\.)", name)
        layers[found[0] if found else name].append(name)
    dealt: list[list[str]] = [[] for _ in range(fragments)]
    filled = [0] * fragments
    for names in sorted(layers.values(), key=lambda each: -sum(sizes[n] for n in each)):
        emptiest = filled.index(min(filled))
        dealt[emptiest] += names
        filled[emptiest] += sum(sizes[name] for name in names)
    return dealt


class OuterState:
    """Global weights and outer momentum by fragment, with the steps and tokens behind them.

    Starts from the parameters as they are, which must be the same on all islands.
    """

    def __init__(self, named: Mapping[str, Tensor], settings: Outer) -> None:
        self.settings = settings
        sizes = {name: local_part(p).numel() for name, p in named.items()}
        self.names = fragments_of(sizes, settings.fragments)
        self._spans = [list(_spans(names, sizes)) for names in self.names]
        self._global = [self._gathered(f, named) for f in range(settings.fragments)]
        self._momentum = [torch.zeros_like(each) for each in self._global]
        self.rounds = [0] * settings.fragments
        """Outer steps of each fragment."""
        self.tokens = [0] * settings.fragments
        """Tokens of this island behind each fragment that no round has had yet."""

    def count(self, tokens: int) -> None:
        """Count an inner step's tokens."""
        self.tokens = [before + tokens for before in self.tokens]

    def uncount(self, fragment: int, tokens: int) -> None:
        """Take off the tokens behind what was sent of a fragment; later ones count for the next."""
        self.tokens[fragment] -= tokens

    @torch.no_grad()
    def delta(self, fragment: int, params: Mapping[str, Tensor]) -> Tensor:
        """Return the outer gradient of a fragment, fp32 [n]: global weights less the island's."""
        return self._global[fragment] - self._gathered(fragment, params)

    @torch.no_grad()
    def apply(self, fragment: int, mean: Tensor) -> None:
        """Move a fragment's global weights by the islands' mean outer gradient [n], as SGD does."""
        s = self.settings
        sgd(
            [self._global[fragment]], [mean], [self._momentum[fragment]] if s.momentum else [None],
            lr=s.lr, momentum=s.momentum, nesterov=s.nesterov, dampening=0.0, weight_decay=0.0,
            maximize=False,
        )  # fmt: skip
        self.rounds[fragment] += 1

    @torch.no_grad()
    def settle(self, fragment: int, mean: Tensor) -> None:
        """Move a fragment's global weights by the mean [n] itself: to the islands' mean weights.

        For the end of a run: there momentum would go on past what was trained.
        """
        self._global[fragment].sub_(mean)
        self.rounds[fragment] += 1

    @torch.no_grad()
    def take(self, fragment: int, params: Mapping[str, Tensor], *, whole: bool = False) -> None:
        """Mix a fragment's global weights into the island's, by the settings' share or whole."""
        share = 1.0 if whole else self.settings.share
        for own, shared in self._pairs(self._global, fragment, params):
            if share == 1:
                own.copy_(shared)
            else:
                own.lerp_(shared.to(own.device), share)

    @torch.no_grad()
    def rebase(
        self, params: Mapping[str, Tensor], peers: Mapping[str, Tensor], *, keep: bool
    ) -> None:
        """Take up another island's `tensors`, and move the own weights as the global ones moved.

        So an island that missed rounds can `keep` its progress since the last one it was in; else
        its weights are the global ones.
        """
        for name, tensor in self.tensors(params).items():
            new = local_part(peers[name])
            parameter, _, state = name.rpartition(".")
            if state == "global":
                own = local_part(params[parameter])
                if keep:
                    own.add_((new - local_part(tensor)).to(own.device))
                else:
                    own.copy_(new)
            local_part(tensor).copy_(new)

    def tensors(self, params: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the state, `NAME.global` and `NAME.momentum`, placed as the parameters.

        What is loaded into them in place is what the next round uses.
        """
        states = dict(zip(STATES, (self._global, self._momentum), strict=True))
        return {
            f"{name}.{state}": place_like(flat[fragment][start:end].view(shape), params[name])
            for state, flat in states.items()
            for fragment, spans in enumerate(self._spans)
            for name, start, end in spans
            for shape in [local_part(params[name]).shape]
        }

    def flats(self, fragment: int) -> list[Tensor]:
        """Return what a fragment's round changes, themselves: its global weights and momentum."""
        return [self._global[fragment], self._momentum[fragment]]

    def facts(self) -> dict[str, Any]:
        """Return the state that is no tensor, as JSON takes it."""
        return {"rounds": list(self.rounds), "tokens": list(self.tokens)}

    def load_facts(self, facts: Mapping[str, Any]) -> None:
        """Take up what `facts` returned."""
        self.rounds = [int(each) for each in facts["rounds"]]
        self.tokens = [int(each) for each in facts["tokens"]]

    @torch.no_grad()
    def _gathered(self, fragment: int, params: Mapping[str, Tensor]) -> Tensor:
        """Return a copy of a fragment's parameters as one vector, zero between them."""
        spans = self._spans[fragment]
        flat = torch.zeros(_blocks_end(spans), dtype=torch.float32, device=HOST)
        for own, part in self._pairs({fragment: flat}, fragment, params):
            part.copy_(own)
        return flat

    def _pairs(
        self, flat: Sequence[Tensor] | Mapping[int, Tensor], fragment: int,
        params: Mapping[str, Tensor],
    ) -> Iterator[tuple[Tensor, Tensor]]:  # fmt: skip
        """Yield each parameter's own part and its place in the fragment's vector."""
        for name, start, end in self._spans[fragment]:
            own = local_part(params[name].detach())
            yield own, flat[fragment][start:end].view(own.shape)


def _spans(names: Sequence[str], sizes: Mapping[str, int]) -> Iterator[tuple[str, int, int]]:
    """Yield (name, start, end) in the fragment's vector, each start at a block's."""
    start = 0
    for name in names:
        yield name, start, start + sizes[name]
        start += _whole_blocks(sizes[name])


def _blocks_end(spans: Sequence[tuple[str, int, int]]) -> int:
    return spans[-1][1] + _whole_blocks(spans[-1][2] - spans[-1][1]) if spans else 0


def _whole_blocks(values: int) -> int:
    return -(-values // BLOCK_VALUES) * BLOCK_VALUES
