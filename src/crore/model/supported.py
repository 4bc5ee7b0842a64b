"""Which catalogue models the decoder builds, and which it refuses by name."""

from __future__ import annotations

from crore.catalog.types import ModelSpec
from crore.errors import InputError


def check_buildable(spec: ModelSpec) -> None:
    """Raise InputError for a model with a layer kind that is not built: Mamba-2, gated DeltaNet."""
    kinds = (("Mamba-2", spec.mamba is not None or "M" in spec.pattern),
             ("gated DeltaNet", spec.deltanet is not None or spec.attention_gate))  # fmt: skip
    for kind, here in kinds:
        if here:
            raise InputError(
                f"{spec.name} has {kind} layers, which crore's trainer does not build yet; it can "
                "be planned for another stack: crore plan --stack megatron-2025"
            )
    if spec.pattern:
        raise InputError(f"{spec.name} is a hybrid of single-mixer layers ({spec.pattern[:20]}…), "
                         "which crore's trainer does not build yet")  # fmt: skip


def is_mixture(spec: ModelSpec, layer: int) -> bool:
    """Return whether a layer's feed-forward is a mixture of experts."""
    behind = layer - spec.first_dense
    return spec.experts > 0 and behind >= 0 and (behind + 1) % spec.moe_every == 0


def window_of(spec: ModelSpec, layer: int) -> int:
    """Return the tokens a layer's attention looks back on; 0 where it sees all."""
    if not spec.window:
        return 0
    if spec.global_every:
        return 0 if (layer + 1) % spec.global_every == 0 else spec.window
    group, place = divmod(layer, spec.window_every)
    return spec.window if place == 0 and group < spec.layers // spec.window_every else 0
