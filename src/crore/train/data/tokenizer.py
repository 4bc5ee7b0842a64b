"""Text to token ids and back: byte-level BPE, trained here or given as a `tokenizer.json`."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from crore import io
from crore.errors import InputError
from crore.train.data.readers import first_line, needed

if TYPE_CHECKING:
    import tokenizers

END_OF_TEXT: Final = "<|endoftext|>"
_ENDS: Final = (
    END_OF_TEXT, "<|end_of_text|>", "<|end▁of▁sentence|>", "</s>", "<eos>", "<|im_end|>",
    "<|eot_id|>", "[SEP]",
)  # fmt: skip
"""Names of the end of a text in published tokenizers, the likeliest first."""
LEAST_VOCAB: Final = 257
"""Every byte and the end of a text."""
TRAINING_CHARS: Final = 64_000_000
"""Merges are learned from about this much text at most; more changes few of them."""
RECIPE: Final = "byte-level BPE, GPT-2 pattern, 1"
"""Names the training settings; part of the cache key."""


class Encoder:
    """A tokenizer with one end-of-text id, which no text can spell.

    Made by `load_encoder`; not to be pickled, open the file again instead.
    """

    def __init__(self, tokenizer: tokenizers.Tokenizer, text: str, end: int) -> None:
        self._tokenizer = tokenizer
        self.text = text
        """The `tokenizer.json`."""
        self.sha256 = hashlib.sha256(text.encode()).hexdigest()
        """Of the `tokenizer.json`."""
        self.size = 1 + max(tokenizer.get_vocab(with_added_tokens=True).values())
        """One more than the largest id."""
        self.end = end
        """Id of the end of a text."""
        self.end_name = str(tokenizer.id_to_token(end))
        """How the `tokenizer.json` calls it."""

    def encode(self, text: str) -> list[int]:
        """Return the ids of a text, without an end."""
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of some ids, ends left out; unknown ids give nothing."""
        text: str = self._tokenizer.decode(list(ids), skip_special_tokens=True)
        return text

    def encode_many(self, texts: Sequence[str]) -> NDArray[np.int64]:
        """Return the ids of texts, each with its end; on all cores."""
        encoded = self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        return np.concatenate([np.asarray([*e.ids, self.end], dtype=np.int64) for e in encoded])

    def encode_measured(self, texts: Sequence[str]) -> tuple[NDArray[np.int64], NDArray[np.uint32]]:
        """Return ids as `encode_many`, and the bytes of UTF-8 text that each covers.

        The bytes of a text sum to its length exactly: what a tokenizer drops (blanks, say) counts
        for the token after it, a character split over tokens for the first of them.
        """
        encoded = self._tokenizer.encode_batch(list(texts), add_special_tokens=False)
        ids = [np.asarray([*e.ids, self.end], dtype=np.int64) for e in encoded]
        lengths = [_covered(t, e.offsets) for t, e in zip(texts, encoded, strict=True)]
        return np.concatenate(ids), np.concatenate(lengths)


def _covered(text: str, offsets: Sequence[tuple[int, int]]) -> NDArray[np.uint32]:
    """Return the bytes each token and the end after it add, from (start, end) in characters."""
    points = np.frombuffer(text.encode("utf-32-le"), dtype=np.uint32)
    widths = 1 + (points >= 0x80).astype(np.int64) + (points >= 0x800) + (points >= 0x10000)
    upto = np.concatenate([[0], np.cumsum(widths)])
    reached = upto[[end for _, end in offsets]] if offsets else upto[:0]
    reached = np.maximum.accumulate(np.append(reached, upto[-1]))
    return np.diff(reached, prepend=0).astype(np.uint32)


def load_encoder(path: Path) -> Encoder:
    """Read a `tokenizer.json`; raises `InputError` when it is none or has no end of text."""
    library = _library()
    text = io.read_text(path)
    try:
        tokenizer = library.Tokenizer.from_str(text)
    except Exception as error:  # the library raises nothing narrower
        raise InputError(f"{str(path)[-80:]} is no tokenizer.json: {first_line(error)}") from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    tokenizer.encode_special_tokens = True  # a text that spells a special token is only text
    ends = [tokenizer.token_to_id(name) for name in _ENDS]
    end = next((number for number in ends if number is not None), None)
    if end is None:
        raise InputError(
            f"{str(path)[-80:]} has no end-of-text token (one of {' '.join(_ENDS[:5])} …): "
            f"add {END_OF_TEXT} to it"
        )
    return Encoder(tokenizer, text, end)


def check_size(size: int, vocab: int, name: str) -> None:
    """Raise `InputError` when a tokenizer has more ids than the model has rows."""
    if size > vocab:
        raise InputError(
            f"tokenizer {name[-80:]} has {size:,} ids but the model's vocabulary is {vocab:,}: "
            "take a smaller tokenizer, or raise the model's vocabulary"
        )


def train_tokenizer(texts: Iterable[str], vocab: int) -> str:
    """Learn at most `vocab` tokens from texts and return the `tokenizer.json`.

    Fewer when the texts have no more pairs to merge. Raises `InputError` below 257 tokens.
    """
    if vocab < LEAST_VOCAB:
        raise InputError(
            f"a vocabulary needs at least {LEAST_VOCAB} tokens (every byte, and the end of a "
            f"text), not {vocab}"
        )
    library = _library()
    tokenizer = library.Tokenizer(library.models.BPE())
    tokenizer.pre_tokenizer = library.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = library.decoders.ByteLevel()
    trainer = library.trainers.BpeTrainer(
        vocab_size=vocab, special_tokens=[END_OF_TEXT], show_progress=False,
        initial_alphabet=library.pre_tokenizers.ByteLevel.alphabet(),
    )  # fmt: skip
    tokenizer.train_from_iterator(texts, trainer)
    text: str = tokenizer.to_str()
    return text


def thinned(texts: Iterable[str], total_chars: int) -> Iterator[str]:
    """Yield about `TRAINING_CHARS` of texts that hold `total_chars`, evenly spread."""
    share = min(1.0, TRAINING_CHARS / max(total_chars, 1))
    for number, text in enumerate(texts):
        if int((number + 1) * share) > int(number * share):
            yield text


def _library() -> Any:
    return needed("tokenizers", "tokenizers")
