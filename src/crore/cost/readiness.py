"""What else can bind a large run: data, input, checkpoints, starting up."""

from __future__ import annotations

from typing import Final

from crore.cost.arrays import Num

STOCK_TOKENS: Final = (100e12, 300e12, 1000e12)
"""(low, value, high) tokens of public human text, quality and repetition adjusted
(arXiv 2211.04325 v2, 2024: 300 T, 90 % interval 100 T to 1,000 T)."""
TOKEN_BYTES: Final = 4
"""Bytes of one stored token: vocabularies of more than 65,536 need a 32-bit integer."""
CHECKPOINT_BYTES: Final = 14
"""Bytes per parameter: 16-bit weights, 32-bit master weights and two Adam moments.

BLOOM's checkpoint of 176 B parameters has 2.3 TB, 13.1 a parameter (its model card, 2022)."""
STARTUP_S_PER_GPU: Final = 265 / 98_304
"""Stock NCCL made its communicators in 265 s at 96k GPUs (arXiv 2510.20171, which makes it 24 s).

The line through that point passes MegaScale's bounds, under 5 s at 2,048 GPUs (5.5 s here) and
under 30 s above 10,000, reached after 1,047 s and 361 s at 2,048 (Jiang et al., NSDI 2024, §3.5).
"""


def data_epochs(tokens: Num, stock_tokens: Num) -> Num:
    """Times a run of `tokens` reads a stock of `stock_tokens` (`STOCK_TOKENS`).

    Up to four passes are worth nearly as much as new text (arXiv 2305.16264).
    """
    return tokens / stock_tokens


def input_bytes_per_s(tokens_per_s: Num) -> Num:
    """Bytes per second the whole run reads, 4 per token; each token is read once."""
    return TOKEN_BYTES * tokens_per_s


def checkpoint_bytes(parameters: Num) -> Num:
    """Bytes of one checkpoint with optimizer states, 14 per parameter: 420 TB for 30 T."""
    return CHECKPOINT_BYTES * parameters


def checkpoint_write_bytes_per_s(parameters: Num, write_s: Num) -> Num:
    """Bytes per second the store must take for a checkpoint to be written in `write_s`."""
    return checkpoint_bytes(parameters) / write_s


def startup_s(world_gpus: Num) -> Num:
    """Seconds until the communicators of one world exist, `STARTUP_S_PER_GPU` per GPU.

    Process start and reading the checkpoint come on top.
    """
    return STARTUP_S_PER_GPU * world_gpus
