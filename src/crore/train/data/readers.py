"""Texts out of files: plain text, JSON lines and Parquet, read as streams.

Each reader yields the documents of one file, the long ones cut at blank lines; what it cannot
read is one `InputError` naming the file and, in JSON lines, the line.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from crore.errors import InputError, nearest, shown

TEXT_SUFFIXES: Final = (".txt", ".text", ".md", ".markdown", ".rst", ".tex", ".py", ".html")
RECORD_SUFFIXES: Final = (".jsonl", ".ndjson", ".parquet")
FIELDS: Final = ("text", "messages", "content")
"""Of a JSON line, the first that is there is read."""
_LEAST_PIECE, _MOST_PIECE = 2_000, 1_000_000


def piece_chars(total_bytes: int) -> int:
    """Return how long a document of a source of `total_bytes` may be before it is cut.

    About a hundredth of the source, so that about one percent can be held out of any.
    """
    return min(max(total_bytes // 100, _LEAST_PIECE), _MOST_PIECE)


def read_file(path: Path, limit: int) -> Iterator[str]:
    """Yield the documents of a file, read by its suffix, none much longer than `limit`."""
    suffix = path.suffix.lower()
    if suffix == ".parquet":
        texts = parquet_texts(path)
    elif suffix in RECORD_SUFFIXES:
        texts = jsonl_texts(path)
    else:
        yield from pieces(_lines(path), limit)
        return
    for text in texts:
        whole = len(text) <= limit
        yield from pieces([text] if whole else text.splitlines(keepends=True), limit)


def pieces(lines: Iterable[str], limit: int) -> Iterator[str]:
    """Join lines to texts of about `limit` characters, cut at blank lines where there are any.

    Blank texts are left out; nothing else is lost.
    """
    held: list[str] = []
    size = 0
    for line in _short_lines(lines, limit):
        if held and size + len(line) > limit:
            cut = _last_blank(held)
            yield from _unless_blank(held[:cut])
            held = held[cut:]
            size = sum(map(len, held))
        held.append(line)
        size += len(line)
    yield from _unless_blank(held)


def _short_lines(lines: Iterable[str], limit: int) -> Iterator[str]:
    for line in lines:
        yield from (line[start : start + limit] for start in range(0, len(line), limit))


def _last_blank(lines: list[str]) -> int:
    """Return the last blank line of the second half, else the end."""
    places = range(len(lines) - 1, len(lines) // 2, -1)
    return next((place for place in places if not lines[place].strip()), len(lines))


def _unless_blank(lines: list[str]) -> Iterator[str]:
    text = "".join(lines)
    if text.strip():
        yield text


def _lines(path: Path) -> Iterator[str]:
    """Yield the lines of a UTF-8 file, with or without a byte-order mark."""
    try:
        with path.open(encoding="utf-8-sig") as file:
            yield from file
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path.name[-60:]} is not UTF-8 text ({error.reason}): convert it, or leave it out"
        ) from error
    except OSError as error:
        raise InputError(f"cannot read {str(path)[-80:]}: {error.strerror}") from error


def jsonl_texts(path: Path) -> Iterator[str]:
    """Yield the text of each line: its `text`, its `messages` as a dialogue, or its `content`."""
    for number, line in enumerate(_lines(path), start=1):
        if line.strip():
            yield _checked(_record_text(line, f"line {number} of {path.name[-60:]}"), path, number)


def _record_text(line: str, where: str) -> str:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where} is not valid JSON: {str(error)[:80]}") from error
    if not isinstance(record, dict):
        raise InputError(f"{where} must hold a JSON object, not {type(record).__name__}")
    field = next((name for name in FIELDS if record.get(name) is not None), None)
    if field is None:
        raise InputError(f"{where} has no field {' or '.join(FIELDS)}{_near(record)}")
    text = _dialogue(record[field]) if field == "messages" else _content(record[field])
    if text is None:
        raise InputError(f"{where}: {field} must be text, not {shown(record[field])}")
    return text


def _dialogue(messages: Any) -> str | None:
    """Return OpenAI messages as `role: content` paragraphs; None when they are not such."""
    if not isinstance(messages, list) or not all(isinstance(m, dict) for m in messages):
        return None
    turns = [(m.get("role", "user"), _content(m.get("content") or "")) for m in messages]
    if any(content is None for _, content in turns):
        return None
    return "\n\n".join(f"{role}: {content}" for role, content in turns if content) + "\n"


def _content(content: Any) -> str | None:
    """Return a content that is text or a list of parts, of which the text is taken."""
    if isinstance(content, list):
        parts = [part.get("text", "") for part in content if isinstance(part, dict)]
        return "".join(parts) if all(isinstance(part, str) for part in parts) else None
    return content if isinstance(content, str) else None


def _checked(text: str, path: Path, number: int) -> str:
    """Return `text`, unless JSON escapes made it hold halves of characters."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InputError(
            f"line {number} of {path.name[-60:]} holds half a character (\\u escape of a lone "
            "surrogate): mend it, or leave it out"
        ) from error
    return text


def parquet_texts(path: Path) -> Iterator[str]:
    """Yield the column `text` of a Parquet file; raises `InputError` without pyarrow."""
    parquet, arrow = needed("pyarrow.parquet", "pyarrow"), needed("pyarrow", "pyarrow")
    try:
        with parquet.ParquetFile(path) as file:
            _check_column(path, file.schema_arrow, arrow)
            for batch in file.iter_batches(batch_size=1024, columns=["text"]):
                yield from filter(None, batch.column(0).to_pylist())
    except (arrow.ArrowException, OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"cannot read {path.name[-60:]} as Parquet: {first_line(error)}"
        ) from error


def _check_column(path: Path, schema: Any, arrow: Any) -> None:
    if "text" not in schema.names:
        raise InputError(f"{path.name[-60:]} has no column text{_near(schema.names)}")
    kind = schema.field("text").type
    kind = kind.value_type if arrow.types.is_dictionary(kind) else kind
    if not (arrow.types.is_string(kind) or arrow.types.is_large_string(kind)):
        raise InputError(f"column text of {path.name[-60:]} must be text, not {str(kind)[:40]}")


def needed(module: str, package: str) -> ModuleType:
    """Import a package of an extra; raises `InputError` with its install line when it is absent."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise InputError(f"{package} is needed here: pip install {package}") from error


def first_line(error: Exception) -> str:
    """Return the first line of what a library says."""
    return (str(error).splitlines() or [type(error).__name__])[0][:100]


def _near(names: Iterable[Any]) -> str:
    """Return a hint: the names like `text`, else the first few there are."""
    known = [str(name)[:30] for name in names]
    near = nearest("text", known) or known[:5]
    return f"; it has {', '.join(near)}: rename one to text" if near else ""
