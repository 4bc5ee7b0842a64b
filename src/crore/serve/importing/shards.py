"""The files of a Hugging Face checkpoint: which tensor is in which, one file open at a time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, Protocol

import torch
from torch import Tensor

from crore.errors import InputError
from crore.io import exists, parse_object, read_text

INDEXES: Final = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
SINGLE: Final = ("model.safetensors", "pytorch_model.bin")
Fetch = Callable[[str], None]
"""Told the name of a file that is not there, before it is read."""


class _Open(Protocol):
    """A file that is open."""

    def keys(self) -> list[str]:
        """Return the names of its tensors."""

    def rows(self, name: str, first: int, last: int | None) -> Tensor:
        """Return a tensor, or rows of it."""


class Shards:
    """The tensors of a checkpoint by name, each read when asked for.

    `places` says which file has which tensor. With `fetch`, files that are not there yet are asked
    for; with `delete`, a file is removed once another is opened and each of its own tensors was
    taken as often as `expect` was told.
    """

    def __init__(self, folder: Path, *, fetch: Fetch | None = None, delete: bool = False) -> None:
        self._folder, self._fetch, self._delete = folder, fetch, delete
        self._name = ""
        self._file: _Open | None = None
        self.places = self._find()
        self._left: Counter[str] = Counter()

    def order(self, name: str) -> int:
        """Return the place of a tensor's file among the files."""
        return self._numbers[self.places[name]]

    def expect(self, uses: Mapping[str, int]) -> None:
        """Say how often each tensor will be taken; what has no use does not keep a file."""
        self._left.clear()
        for name, count in uses.items():
            self._left[self.places[name]] += count

    def take(self, name: str, first: int = 0, last: int | None = None) -> Tensor:
        """Return a tensor, or the rows of it from `first` to `last`, as it is stored.

        Raises `InputError` for a file that cannot be read, and for a name it does not hold.
        """
        file = self.places[name]
        found = self._opened(file).rows(name, first, last)
        self._left[file] -= 1
        return found

    def close(self) -> None:
        """Close the file that is open, and remove it where nothing more will be taken of it."""
        file, self._name, self._file = self._name, "", None
        if self._delete and file and not self._left[file]:
            (self._folder / file).unlink()

    def _opened(self, file: str) -> _Open:
        if self._file is None or self._name != file:
            self.close()
            path = self._folder / file
            if not exists(path) and self._fetch is not None:
                self._fetch(file)
            self._file, self._name = _open(path), file
        return self._file

    def _find(self) -> dict[str, str]:
        index = next((path for name in INDEXES if exists(path := self._folder / name)), None)
        if index is not None:
            found = parse_object(read_text(index), str(index)).get("weight_map")
            if not isinstance(found, dict) or not all(isinstance(v, str) for v in found.values()):
                raise InputError(f"{str(index)[-80:]} has no weight_map of tensors to files")
            for file in found.values():
                if Path(file).name != file:
                    raise InputError(f"{index.name} names a file outside its folder: {file[:60]}")
        else:
            file = next((name for name in SINGLE if exists(self._folder / name)), None)
            if file is None:
                raise InputError(
                    f"{str(self._folder)[-60:]} holds no weights: none of {', '.join(SINGLE)}, "
                    f"{', '.join(INDEXES)}"
                )
            found = dict.fromkeys(self._opened(file).keys(), file)
        self._numbers = {file: n for n, file in enumerate(dict.fromkeys(sorted(found.values())))}
        return found


class _Safetensors:
    def __init__(self, path: Path) -> None:
        from safetensors import safe_open

        self._file: Any = safe_open(path, framework="pt")

    def keys(self) -> list[str]:
        return list(self._file.keys())

    def rows(self, name: str, first: int, last: int | None) -> Tensor:
        part: Tensor = self._file.get_slice(name)[first:last]
        return part


class _Pickled:
    """A `.bin` file, mapped into memory: what is not asked for is not read."""

    def __init__(self, path: Path) -> None:
        self._tensors: dict[str, Tensor] = torch.load(
            path, map_location="cpu", weights_only=True, mmap=True
        )

    def keys(self) -> list[str]:
        return list(self._tensors)

    def rows(self, name: str, first: int, last: int | None) -> Tensor:
        return self._tensors[name][first:last].clone()


def _open(path: Path) -> _Open:
    kind = _Safetensors if path.suffix == ".safetensors" else _Pickled
    try:
        return kind(path)
    except FileNotFoundError as error:
        raise InputError(f"no file {str(path)[-100:]}: the index names it") from error
    except Exception as error:  # each library raises its own
        first = (str(error).splitlines() or [""])[0]
        raise InputError(f"{str(path)[-80:]} cannot be read: {first[:100]}") from error
