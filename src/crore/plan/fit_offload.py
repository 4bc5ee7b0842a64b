"""A model that a card cannot hold, with some of its layers on the host.

llama.cpp computes what lies on the host there, its part of the cache too, at the rate of its
memory; transformers sends weights to the card for every token (accelerate) and keeps the whole
cache there, and does not so share weights in 8 and 4 bits. Layers are taken as equal.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from crore.cost import Shape
from crore.cost.serving import (
    HOST_PROCESS_BYTES,
    TORCH_PROCESS_BYTES,
    Format,
    answer_bytes,
    head_bytes,
    table_bytes,
)
from crore.plan.fit_modes import LLAMA_CPP, Cards, Mode

HOST_BYTES_PER_S: Final = 51.2e9
"""Peak of a desktop's memory: two channels of DDR4-3200, 25.6 GB/s each (JEDEC JESD79-4)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Offload:
    """How a model is shared between a card and its host."""

    card_layers: int
    """As many as the card holds; llama.cpp counts the head too (`-ngl` is one more)."""
    host_layers: int
    card_bytes: float
    host_bytes: float
    tokens_per_s: float
    """At most, of one answer, by the bandwidths of both memories (llama.cpp) or of card and bus."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Parts:
    """Bytes of a model at a format and a context."""

    layer: float
    """Weights of one, and where it is computed on the host its cache."""
    read: float
    """What a token reads of one: of its weights, and of its cache."""
    sent: float
    """What goes to the card for a token of one that lies on the host."""
    head: float
    table: float
    """Of tokens, where it is not the head."""
    rest: float
    """What a card needs beside weights, and beside the cache that goes with the layers."""


def offload(cards: Cards, mode: Mode, shape: Shape, tokens: float) -> Offload | None:
    """Return the split with most layers on one card.

    None where no layer fits beside what must be there, on a processor, on several cards, and for a
    mode that trains or that the engine does not share.
    """
    if mode.stored is None or mode.trains or cards.accelerator.cpu or cards.gpus != 1:
        return None
    if cards.engine != LLAMA_CPP and mode.stored.expands:
        return None
    parts, layers = _parts(cards, mode, mode.stored, shape, tokens), int(shape.layers)
    resident, spare = _resident(cards, parts)
    room = cards.accelerator.memory_bytes - resident - spare
    held = min(int(room // parts.layer), layers - 1)
    if held < 1:
        return None
    return _split(cards, parts, held, layers - held)


def _parts(cards: Cards, mode: Mode, stored: Format, shape: Shape, tokens: float) -> _Parts:
    need = {name: float(part) for name, part in cards.need(mode, shape, tokens).items()}
    weights_read, cache = (float(part) for part in answer_bytes(shape, stored, tokens, 1.0))
    head, table = float(head_bytes(shape, stored)), float(table_bytes(shape, stored))
    layers = float(shape.layers)
    own = need["cache"] if cards.engine == LLAMA_CPP else 0.0
    return _Parts(
        layer=(need["weights"] - head - table + own) / layers,
        read=(weights_read - head + cache) / layers, sent=(weights_read - head) / layers,
        head=head, table=table, rest=sum(need.values()) - need["weights"] - own,
    )  # fmt: skip


def _resident(cards: Cards, parts: _Parts) -> tuple[float, float]:
    """Return bytes on the card beside layers, and those kept free for a layer that passes through.

    llama.cpp puts the head on the card first and the token table on the host (src/llama-model.cpp);
    accelerate puts the table on the card first and the head last.
    """
    if cards.engine == LLAMA_CPP:
        return parts.rest + parts.head, 0.0
    return parts.rest + (parts.table or parts.head), parts.layer


def _split(cards: Cards, parts: _Parts, held: int, left: int) -> Offload:
    rate = cards.accelerator.memory_bytes_per_s
    resident, spare = _resident(cards, parts)
    if cards.engine == LLAMA_CPP:
        on_host = left * parts.layer + parts.table + HOST_PROCESS_BYTES
        seconds = (held * parts.read + parts.head) / rate + left * parts.read / HOST_BYTES_PER_S
    else:
        last = parts.head if parts.table else 0.0  # a tied one is on the card
        on_host = left * parts.layer + last + TORCH_PROCESS_BYTES
        sent = left * parts.sent + last
        seconds = ((held + left) * parts.read + parts.head) / rate
        seconds += sent / cards.accelerator.host_bytes_per_s
    return Offload(
        card_layers=held, host_layers=left, card_bytes=resident + spare + held * parts.layer,
        host_bytes=on_host, tokens_per_s=1 / seconds,
    )  # fmt: skip
