"""The decoder: a catalogue shape becomes a PyTorch module. No ranks in it.

B: sequences, S: tokens on this rank, E: hidden, V: vocabulary.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from crore.catalog.types import ModelSpec
from crore.errors import InputError
from crore.model.attention import Attention
from crore.model.feed_forward import FeedForward
from crore.model.latent import LatentAttention
from crore.model.mixture import Mixture
from crore.model.norms import make_norm
from crore.model.positions import Mask, Rotary, alibi_slopes
from crore.model.prediction import PredictionModule
from crore.model.supported import check_buildable, is_mixture, window_of


class Block(nn.Module):
    """One pre-norm layer: attention and feed-forward, one after the other or side by side."""

    def __init__(self, spec: ModelSpec, attention: nn.Module, *, mixture: bool) -> None:
        super().__init__()
        self.attention_norm = make_norm(spec.norm, spec.hidden, spec.norm_epsilon)
        self.attention = attention
        # In a parallel block both read the same normed input (PaLM, arXiv 2204.02311 §2).
        self.feed_forward_norm = (
            None if spec.parallel_block else make_norm(spec.norm, spec.hidden, spec.norm_epsilon)
        )
        self.feed_forward = (
            Mixture(spec)
            if mixture
            else FeedForward(spec.hidden, spec.ffn, gated=spec.gated_mlp, bias=spec.bias)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map hidden states [B, S, E] to [B, S, E]."""
        normed = self.attention_norm(x)
        if self.feed_forward_norm is None:
            x = x + self.attention(normed) + self.feed_forward(normed)
        else:
            x = x + self.attention(normed)
            x = x + self.feed_forward(self.feed_forward_norm(x))
        return x


class Decoder(nn.Module):
    """A decoder, or the part of one that a pipeline stage holds.

    Layers keep their number in the whole model, so that a parameter has one name under every
    layout. A part without the embedding is given hidden states; one without the head returns them.
    """

    place: Tensor

    def __init__(self, spec: ModelSpec, seq_len: int, *, mtp: bool = False) -> None:
        super().__init__()
        check_buildable(spec)
        self.spec, self.seq_len = spec, seq_len
        alibi = spec.position == "alibi"
        self.masks = {width: Mask(width, alibi=alibi) for width in _windows(spec)}
        self.core_heads = slice(None)
        """The heads whose attention core runs on this rank; set from outside."""
        turned = spec.mla.qk_rope if spec.mla else spec.head_dim
        rotary = spec.position == "rope" or spec.mla is not None
        self.rotary = Rotary(turned, spec.rope_base) if rotary else None
        self.embedding: nn.Embedding | None = nn.Embedding(spec.vocab, spec.hidden)
        self.positions: nn.Embedding | None = (
            nn.Embedding(spec.max_positions, spec.hidden) if spec.position == "learned" else None
        )
        self.register_buffer("place", torch.empty(0, dtype=torch.int64), persistent=False)
        self.layers = nn.ModuleDict({str(i): self._block(i) for i in range(spec.layers)})
        self.norm: nn.Module | None = make_norm(spec.norm, spec.hidden, spec.norm_epsilon)
        self.head: nn.Linear | None = nn.Linear(spec.hidden, spec.vocab, bias=False)
        self.prediction = nn.ModuleList(
            PredictionModule(spec, self._block(spec.layers - 1))
            for _ in range(spec.mtp_layers if mtp else 0)
        )
        self.tie()

    def _block(self, layer: int) -> Block:
        spec, mask = self.spec, self.masks[window_of(self.spec, layer)]
        attention: nn.Module
        if spec.mla is not None and self.rotary is not None:
            attention = LatentAttention(spec, spec.mla, self.rotary, mask)
        else:
            attention = Attention(spec, self.rotary, mask)
        return Block(spec, attention, mixture=is_mixture(spec, layer))

    @property
    def tied(self) -> bool:
        """True when this part holds embedding and head and they are one matrix."""
        return self.spec.tied_embeddings and self.embedding is not None and self.head is not None

    def tie(self) -> None:
        """Make embedding and head one parameter again, after either was replaced."""
        if self.tied and self.embedding is not None and self.head is not None:
            self.head.weight = self.embedding.weight

    def reset_positions(self, place: Tensor) -> None:
        """Set the positions [S] of the tokens this rank holds, and make the tables for them."""
        self.place = place
        if self.rotary is not None:
            self.rotary.reset(place)
        for mask in self.masks.values():
            if mask.alibi:
                mask.reset(alibi_slopes(self.spec.heads)[self.core_heads].to(place.device))

    def _make_masks(self, x: Tensor) -> None:
        """Make the masks of whole sequences ahead of the layers, which may be compiled."""
        for mask in self.masks.values():
            if self.training and not mask.causal_alone:
                mask.tensor(self.seq_len, x)

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Map tokens [B, S] (or hidden states [B, S, E]) to logits [B, S, V] (or hidden states).

        While training with multi-token prediction: the logits of the next token, then of each
        token after it.
        """
        tokens = x
        if self.embedding is not None:
            x = self.embedding(x)
            if self.positions is not None:
                x = x + self.positions(self.place[: tokens.shape[1]])
        self._make_masks(x)
        for layer in self.layers.values():
            x = layer(x)
        if self.norm is None or self.head is None:
            return x
        logits: Tensor = self.head(self.norm(x))
        if not self.training or not len(self.prediction) or self.embedding is None:
            return logits
        further = []
        for depth, module in enumerate(self.prediction, start=1):
            # Position t is given token t + depth and predicts the one after it.
            x = module(x, self.embedding(tokens.roll(-depth, dims=1)))
            further.append(self.head(self.norm(x)))
        return (logits, *further)


def _windows(spec: ModelSpec) -> set[int]:
    return {window_of(spec, layer) for layer in range(spec.layers)}


def build_decoder(
    spec: ModelSpec, seq_len: int, *, device: str = "meta", mtp: bool = False
) -> Decoder:
    """Return a decoder on `device`, its weights not yet set.

    Raises InputError for a model the trainer does not build and for sequences beyond learned
    positions.
    """
    if spec.position == "learned" and seq_len > spec.max_positions:
        raise InputError(
            f"{spec.name} has {spec.max_positions:,} learned positions; seq_len {seq_len:,} is more"
        )
    with torch.device(device):
        return Decoder(spec, seq_len, mtp=mtp)
