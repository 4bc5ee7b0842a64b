"""Random mission files as bytes: sound ones, misspelt ones, wrong kinds and units, and junk."""

from __future__ import annotations

from random import Random
from typing import Any, Final

from tests.fuzz import words

TABLES: Final = {
    "": {"title": 0.3, "precision": 0.4, "stack": 0.2, "objective": 0.3},
    "data": {"tokens": 0.6, "seq_len": 0.4, "global_batch": 0.3, "global_batch_tokens": 0.1,
             "stock_tokens": 0.1},
    "cluster": {"fabric": 0.1, "wan": 0.1, "sites": 0.1},
}  # fmt: skip
"""Table -> key -> how often it is given."""
WRONG: Final = ("-1", "0", "nan", "inf", "-inf", "1.5", "true", "[]", "{}", '""', '"30 horses"',
                "1979-05-27", "[1, 2]", '"' + "9" * 400 + '"', "9" * 5000, '"\\u0000"', '"🦙"',
                "{a = {b = 1}}", "0x7fffffffffffffff", "1e309", '"80 GB"', '"10M "')  # fmt: skip
"""Values of the wrong kind, unit or size."""

Lines = dict[str, list[str]]
"""Table -> its lines."""


def mission_of(rng: Random) -> bytes:
    """Return a mission file."""
    if rng.random() < 0.08:
        return _junk(rng)
    lines = _sound(rng)
    if rng.random() < 0.6:
        for _ in range(rng.randrange(1, 4)):
            rng.choice((_misspell, _wrong, _lose, _double, _stray))(rng, lines)
    text = "\n".join(
        line for name, table in lines.items() for line in ([f"[{name}]"] if name else []) + table
    )
    data = (text + "\n").encode()
    if rng.random() < 0.05:
        cut = rng.randrange(len(data))
        data = rng.choice(
            (data[:cut], data[:cut] + b"\xff\xfe" + data[cut:], b"\xef\xbb\xbf" + data)
        )
    return data


def _sound(rng: Random) -> Lines:
    lines: Lines = {}
    for name, keys in TABLES.items():
        given = {key: _sound_value(rng, key) for key, often in keys.items() if rng.random() < often}
        if name == "":
            given["model"] = _toml(rng, words.choice_of(rng, "model"))
        if name == "cluster":
            given |= _machines(rng)
        lines[name] = [f"{key} = {value}" for key, value in given.items()]
    if rng.random() < 0.3:
        lines["limits"] = [f"{k} = {_toml(rng, v)}" for k, v in words.limits(rng).items()]
    if rng.random() < 0.3:
        lines["fix"] = [f"{k} = {_toml(rng, v)}" for k, v in words.pins(rng, 3).items()]
    return lines


def _machines(rng: Random) -> dict[str, str]:
    if rng.random() < 0.2:
        return {"name": _toml(rng, rng.choice(words.CLUSTERS))}
    return {key: _sound_value(rng, key) for key in ("gpu", "gpus")}


def _sound_value(rng: Random, key: str) -> str:
    return _toml(rng, "a title" if key == "title" else words.choice_of(rng, key))


def _toml(rng: Random, value: Any) -> str:
    if isinstance(value, int) and rng.random() < 0.5:
        return str(value)
    return f'"{words.typed(rng, value)}"' if isinstance(value, int) else f'"{value}"'


def _misspell(rng: Random, lines: Lines) -> None:
    table = rng.choice([*lines])
    if lines[table]:
        k = rng.randrange(len(lines[table]))
        key, equals, value = lines[table][k].partition(" = ")
        if rng.random() < 0.5:
            key = words.spoilt(rng, key)
        else:
            value = words.spoilt(rng, value)
        lines[table][k] = f"{key}{equals}{value}"
    elif table:
        lines[words.spoilt(rng, table)] = lines.pop(table)


def _wrong(rng: Random, lines: Lines) -> None:
    table = lines[rng.choice([*lines])]
    if table:
        k = rng.randrange(len(table))
        table[k] = f"{table[k].partition(' = ')[0]} = {rng.choice(WRONG)}"


def _lose(rng: Random, lines: Lines) -> None:
    table = rng.choice([*lines])
    if rng.random() < 0.3:
        del lines[table]
        lines.setdefault("", [])
    elif lines[table]:
        lines[table].pop(rng.randrange(len(lines[table])))


def _double(rng: Random, lines: Lines) -> None:
    table = lines[rng.choice([*lines])]
    if table:
        table.append(rng.choice(table))


def _stray(rng: Random, lines: Lines) -> None:
    home = rng.choice([*lines])
    lines[home].append(rng.choice((
        "gpus = 8", "[cluster", "[[data]]", "[cluster.gpu]", "= 3", '"" = 1', "data = 7", "tp = 8",
        "a.b.c = 1", "# only a comment", "model.name = 'x'", "[fix.more]", "'q uoted' = 1",
        '"ключ" = 2', "x = '''", "note = 7", "catalog_file = '/etc/passwd'",
    )))  # fmt: skip


def _junk(rng: Random) -> bytes:
    return rng.choice((
        b"", b"\n\n", b"\x00" * 100, bytes(rng.randrange(256) for _ in range(2000)),
        b"[" * 5000, b"a = " + b"[" * 5000, b'{"schema": "crore.plan/1"}', b"model",
        b"model = " + b"9" * 100_000, "modèle = 'é'".encode("latin-1"), b"\xef\xbb\xbf",
        b"#!/bin/sh\necho", b"[a]\n" * 3000, b"x = 1\r\ny = 2\rz = 3",
    ))  # fmt: skip
