"""A plan becomes a sharded PyTorch module on whatever process group exists."""

from __future__ import annotations

from crore.model.decoder import Decoder, build_decoder
from crore.model.initialise import initialise
from crore.model.supported import check_buildable

__all__ = ["Decoder", "build_decoder", "check_buildable", "initialise"]
