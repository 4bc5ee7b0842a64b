"""What a GGUF file says of itself, read without its tensors.

The format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md. The `gguf` package reads it
too, but builds every token of the vocabulary on the way: 2 s where this takes 0.05.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import BinaryIO, Final

from crore.errors import InputError

MAGIC: Final = b"GGUF"
SCALARS: Final = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q",
                  12: "d"}  # fmt: skip
"""Type number of the format -> format of `struct`."""
STRING: Final = 8
ARRAY: Final = 9
Value = str | int | float | bool


def is_gguf(path: Path) -> bool:
    """Return whether a file begins as a GGUF file does."""
    try:
        with path.open("rb") as file:
            return file.read(len(MAGIC)) == MAGIC
    except (OSError, ValueError):
        return False


def read_header(path: Path) -> dict[str, Value]:
    """Return the file's keys and values; of an array its length, under `key.length`.

    Raises InputError for what is no whole GGUF header.
    """
    if not is_gguf(path):
        raise InputError(f"{str(path)[-80:]} is no GGUF file: crore export RUN --to gguf makes one")
    try:
        with path.open("rb") as file:
            file.seek(len(MAGIC))
            version, _, keys = _unpack(file, "<IQQ")
            if version not in (2, 3):
                raise ValueError
            return dict(_entry(file) for _ in range(keys))
    except (struct.error, ValueError, KeyError, OverflowError, MemoryError) as error:
        raise InputError(
            f"{str(path)[-80:]} is a damaged GGUF file: make or copy it anew"
        ) from error


def _entry(file: BinaryIO) -> tuple[str, Value]:
    key = _string(file)
    (kind,) = _unpack(file, "<I")
    if kind == ARRAY:
        return f"{key}.length", _skip_array(file)
    return key, _string(file) if kind == STRING else _unpack(file, f"<{SCALARS[kind]}")[0]


def _skip_array(file: BinaryIO) -> int:
    """Pass over an array and return how many values it holds."""
    kind, count = _unpack(file, "<IQ")
    if kind == STRING:
        for _ in range(count):
            file.seek(_unpack(file, "<Q")[0], 1)
    elif kind == ARRAY:
        for _ in range(count):
            _skip_array(file)
    else:
        file.seek(count * struct.calcsize(f"<{SCALARS[kind]}"), 1)
    return int(count)


def _string(file: BinaryIO) -> str:
    (size,) = _unpack(file, "<Q")
    text = file.read(size)
    if len(text) != size:
        raise ValueError
    return text.decode("utf-8", "replace")


def _unpack(file: BinaryIO, form: str) -> tuple[int, ...]:
    return struct.unpack(form, file.read(struct.calcsize(form)))
