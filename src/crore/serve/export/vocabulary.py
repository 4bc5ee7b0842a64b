"""A tokenizer's vocabulary as llama.cpp reads it out of a GGUF file."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from crore.errors import InputError
from crore.io import exists, parse_object, read_text

WORDS: Final = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}%s| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
"""The pattern of Llama 3 and, with another count of digits, of Qwen 2."""
PATTERNS: Final = {WORDS % "{1,3}": "llama-bpe", WORDS % "": "qwen2"}
"""Pattern -> what llama.cpp calls the splitting that it has code for."""
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)
"""gguf.TokenType."""
ADDED_SCORE: Final = -1000.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Vocabulary:
    """Tokens by id."""

    kind: str
    """`gpt2`: merges of bytes; `llama`: SentencePiece's scores."""
    pre: str
    """How llama.cpp splits text before it merges; "default" for SentencePiece."""
    tokens: list[bytes]
    types: list[int]
    scores: list[float]
    """Empty for merges."""
    space_prefix: bool | None = None
    """A blank goes before the text; None leaves it to the reader."""


def read_vocabulary(folder: Path, rows: int) -> Vocabulary:
    """Return the vocabulary of the tokenizer in a folder, filled up to the model's rows.

    Raises InputError for a tokenizer that llama.cpp has no code for, and for one with more ids than
    rows.
    """
    if exists(folder / "tokenizer.model"):
        found = _sentencepiece(folder)
    else:
        found = _from_json(parse_object(read_text(folder / "tokenizer.json"), "tokenizer.json"))
    if len(found.tokens) > rows:
        raise InputError(
            f"the tokenizer has {len(found.tokens):,} ids but the model's vocabulary is {rows:,}"
        )
    for number in range(len(found.tokens), rows):
        found.tokens.append(b"[PAD%d]" % number)
        found.types.append(UNUSED)
        if found.scores:
            found.scores.append(ADDED_SCORE)
    return found


def _sentencepiece(folder: Path) -> Vocabulary:
    import gguf

    try:
        made = list(gguf.SentencePieceVocab(folder).all_tokens())
    except Exception as error:  # gguf and sentencepiece raise nothing narrower
        first = (str(error).splitlines() or [""])[0]
        raise InputError(f"tokenizer.model cannot be read: {first[:120]}") from error
    return Vocabulary(
        kind="llama", pre="default", tokens=[text for text, _, _ in made],
        types=[int(kind) for _, _, kind in made], scores=[score for _, score, _ in made],
    )  # fmt: skip


def _from_json(tokenizer: dict[str, Any]) -> Vocabulary:
    model = tokenizer.get("model", {})
    if model.get("type") != "BPE":
        raise InputError(f"a tokenizer of kind {model.get('type')} has no form in GGUF: only BPE")
    if model.get("byte_fallback"):
        return _scored(tokenizer, model)
    pre = _pre(tokenizer.get("pre_tokenizer"))
    tokens, types = _tokens(tokenizer, model)
    return Vocabulary(kind="gpt2", pre=pre, tokens=tokens, types=types, scores=[])


def _scored(tokenizer: dict[str, Any], model: dict[str, Any]) -> Vocabulary:
    """Return merges of characters as SentencePiece scores them: what was merged first is best."""
    tokens, types = _tokens(tokenizer, model)
    unknown = model.get("unk_token")
    for number, token in enumerate(tokens):
        if re.fullmatch(rb"<0x[0-9A-F]{2}>", token):
            types[number] = BYTE
        elif unknown is not None and token == unknown.encode():
            types[number] = UNKNOWN
    return Vocabulary(
        kind="llama", pre="default", tokens=tokens, types=types,
        scores=[-float(n) if kind == NORMAL else ADDED_SCORE for n, kind in enumerate(types)],
        space_prefix="Prepend" in json.dumps(tokenizer.get("normalizer")),
    )  # fmt: skip


def _tokens(tokenizer: dict[str, Any], model: dict[str, Any]) -> tuple[list[bytes], list[int]]:
    added = {token["id"]: token for token in tokenizer.get("added_tokens") or []}
    names = {number: name for name, number in model["vocab"].items()}
    names |= {number: token["content"] for number, token in added.items()}
    tokens, types = [], []
    for number in range(1 + max(names)):
        tokens.append(names.get(number, f"[PAD{number}]").encode())
        if number not in names:
            types.append(UNUSED)
        elif number in added:
            types.append(CONTROL if added[number].get("special") else USER_DEFINED)
        else:
            types.append(NORMAL)
    return tokens, types


def _pre(splitter: Any) -> str:
    """Return llama.cpp's name of a pre-tokenizer."""
    steps = list(_steps(splitter))
    kinds = [step.get("type") for step in steps]
    if kinds and kinds[-1] == "ByteLevel" and not steps[-1].get("add_prefix_space"):
        plain = steps[-1].get("use_regex", True)
        if kinds == ["ByteLevel"] and plain:
            return "gpt-2"
        if kinds == ["Digits", "ByteLevel"] and plain and steps[0].get("individual_digits"):
            return "smollm"
        if kinds == ["Split", "ByteLevel"] and not plain and _isolates(steps[0]):
            pattern = steps[0].get("pattern", {}).get("Regex")
            if pattern in PATTERNS:
                return PATTERNS[pattern]
    raise InputError(
        f"llama.cpp has no known splitting like this tokenizer's ({', '.join(map(str, kinds))}): "
        "export to hf, or train with GPT-2's"
    )


def _steps(splitter: Any) -> Iterator[dict[str, Any]]:
    if isinstance(splitter, dict):
        yield from splitter.get("pretokenizers") or [splitter]


def _isolates(step: dict[str, Any]) -> bool:
    return step.get("behavior") == "Isolated" and not step.get("invert")
