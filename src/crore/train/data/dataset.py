"""The prepared data of a run: samples by global index, a fixed validation set, text and ids.

A sample is `seq_len + 1` tokens, of which all but the first are predicted; the next sample of the
same source begins with the last token of this one, so that every token is predicted once an epoch.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crore.errors import InputError
from crore.train.data import shards
from crore.train.data.order import Ints, Order, mixture
from crore.train.data.sources import Source, weights_of
from crore.train.data.tokenizer import Encoder, load_encoder


class Dataset:
    """Prepared shards opened for one sequence length, seed and mixture of sources.

    Opens in milliseconds; made by `prepare`. Raises `InputError` when a source holds less than
    one sample, or a file is damaged.
    """

    vocab: int
    """Rows of the model's embedding; every id is below it."""
    seq_len: int
    """Tokens predicted per sample."""
    end_of_text: int
    """Id that closes each document; a text to continue may start with it."""
    bytes_per_token: float
    """Of all validation text; for exact bits per byte take `validation_bytes`."""
    card: Mapping[str, Any]
    """The data card."""
    tokenizer_file: Path
    """The `tokenizer.json`."""
    key: str
    """Names the prepared data; equal on all ranks that read the same."""
    weights: tuple[float, ...]
    """Part of the samples of each source, summing to 1."""

    def __init__(
        self, folder: Path, sources: Sequence[Source], *, vocab: int, seq_len: int, seed: int
    ) -> None:
        self.card = shards.read_card(folder)
        self.key, self.vocab, self.seq_len = folder.name, vocab, seq_len
        self.tokenizer_file = folder / shards.TOKENIZER
        self.end_of_text = int(self.card["tokenizer"]["end_of_text"])
        entries = self.card["sources"]
        self.weights = weights_of(sources, [entry["train"]["bytes"] for entry in entries])
        numbers = range(len(entries))
        self._train = [shards.open_tokens(folder, n, "train", self.card) for n in numbers]
        self._held = [shards.open_tokens(folder, n, "validation", self.card) for n in numbers]
        self._lengths = [shards.open_lengths(folder, n) for n in numbers]
        self._order = Order(seed=seed, mixture=mixture(self.weights), windows=self._windows())
        self._rows = self._validation_rows()
        held_tokens = sum(len(tokens) for tokens in self._held)
        self.bytes_per_token = sum(int(each.sum()) for each in self._lengths) / held_tokens

    def samples(self, indices: Ints) -> Ints:
        """Return the samples at `[n]` global indices (any, >= 0, in any order), `[n, seq_len + 1]`.

        After the last sample of a source, its next epoch begins, in another order.
        """
        sources, windows = self._order.locate(np.asarray(indices, dtype=np.int64))
        return self._gather(self._train, sources, windows)

    def sources_of(self, indices: Ints) -> Ints:
        """Return the number of the source of each sample, `[n]`, as they stand in the card."""
        return self._order.mixture.place(np.asarray(indices, dtype=np.int64))[0]

    def epochs(self, samples: int) -> tuple[float, ...]:
        """Return how often each source is read through by the first `samples` samples."""
        return self._order.epochs(samples)

    def validation(self, count: int) -> Ints:
        """Return the first `count` validation samples, `[n, seq_len + 1]`; fewer if there are.

        Always the same for one `seq_len`; every token is predicted at most once; sources come by
        weight until one has no more.
        """
        return self._gather(self._held, *self._rows[:, :count])

    @property
    def validation_rows(self) -> int:
        """How many validation samples there are; at least 1."""
        return int(self._rows.shape[1])

    def validation_bytes(self, rows: Ints) -> Ints:
        """Return the bytes of text that the predicted tokens of validation `rows` cover, `[n]`.

        Bits per byte is the sum of nats over rows / (ln 2 · the sum of these).
        """
        sources, windows = self._rows[:, np.asarray(rows, dtype=np.int64)]
        covered = self._gather(self._lengths, sources, windows)[:, 1:]
        total: Ints = covered.sum(axis=1)
        return total

    def encode(self, text: str) -> list[int]:
        """Return the ids of a text, without an end."""
        return self._encoder.encode(text)

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of some ids."""
        return self._encoder.decode(ids)

    @functools.cached_property
    def _encoder(self) -> Encoder:
        return load_encoder(self.tokenizer_file)

    def _windows(self) -> tuple[int, ...]:
        """Return the samples in each source."""
        for tokens, entry in zip(self._train, self.card["sources"], strict=True):
            if len(tokens) <= self.seq_len:
                raise InputError(
                    f"source {str(entry['path'])[-60:]} has {len(tokens):,} tokens to train on; "
                    f"one sample takes {self.seq_len + 1:,}: give more text or a shorter sequence"
                )
        return tuple((len(tokens) - 1) // self.seq_len for tokens in self._train)

    def _validation_rows(self) -> Ints:
        """Return (source, window) of every validation sample, `[2, rows]`, sources by weight."""
        counts = [max(len(tokens) - 1, 0) // self.seq_len for tokens in self._held]
        if not sum(counts):
            most = max(len(tokens) for tokens in self._held)
            raise InputError(
                f"the text held out for validation has {most:,} tokens; one sample takes "
                f"{self.seq_len + 1:,}: give more (different) text or a shorter sequence"
            )
        sources = np.repeat(np.arange(len(counts)), counts)
        windows = np.concatenate([np.arange(count) for count in counts])
        turn = (windows + 0.5) / np.asarray(self.weights)[sources]
        return np.stack([sources, windows])[:, np.argsort(turn, kind="stable")]

    def _gather(self, files: Sequence[NDArray[Any]], sources: Ints, windows: Ints) -> Ints:
        """Return the windows of seq_len + 1 tokens, `[n, seq_len + 1]`."""
        found = np.empty((len(windows), self.seq_len + 1), dtype=np.int64)
        offsets = np.arange(self.seq_len + 1)
        for source, tokens in enumerate(files):
            here = sources == source
            found[here] = tokens[windows[here, None] * self.seq_len + offsets]
        return found
