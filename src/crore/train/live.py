"""Bytes of all tensors that are alive on a CPU, whose allocator does not count them."""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any, Final, Self

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

MADE: Final = "made"
"""What operations make: activations, their gradients, buffers."""
RESIZED: Final = "gathered"
"""What is given a size anew: FSDP's whole weights, which it shrinks to nothing and grows."""


class LiveBytes(TorchDispatchMode):
    """Counts storages that operations make while it is entered, and those it is told to hold.

    A storage counts from the first tensor on it to its end, at the size it was given last: FSDP
    shrinks and grows them. A storage is one Python object as long as it lives, so its identity
    names it. What a kernel takes for itself and frees again is not seen. Every byte is of one kind:
    `MADE`, `RESIZED`, or what `hold` was told.
    """

    def __init__(self, held: Iterable[Tensor] = ()) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now_bytes, self.peak_bytes = 0, 0
        self.kinds: Counter[str] = Counter()
        """Bytes alive by kind."""
        self.peak_kinds: Counter[str] = Counter()
        """The same when most bytes were alive."""
        self._sizes: dict[int, tuple[int, str]] = {}
        self._watched: dict[int, weakref.ref[Any]] = {}
        self._resize = torch.UntypedStorage.resize_
        self.hold(held, "held")

    def hold(self, tensors: Iterable[Tensor], kind: str) -> None:
        """Count tensors as of a kind, whatever they were counted as before."""
        for tensor in tensors:
            storage = _storage(tensor)
            self._see(storage, kind)
            size, before = self._sizes[id(storage)]
            if before != kind:
                self._sizes[id(storage)] = size, kind
                self.kinds[before] -= size
                self.kinds[kind] += size

    def __enter__(self) -> Self:
        """Begin to count; the peak starts from what is alive now."""
        self.peak_bytes, self.peak_kinds = self.now_bytes, self.kinds.copy()
        original, changed = self._resize, self._changed

        def resize(storage: Any, size: int) -> Any:
            changed(storage, size)
            return original(storage, size)

        torch.UntypedStorage.resize_ = resize  # type: ignore[method-assign, assignment]
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End counting."""
        torch.UntypedStorage.resize_ = self._resize  # type: ignore[method-assign]
        super().__exit__(kind, error, trace)  # type: ignore[no-untyped-call]

    def __torch_dispatch__(
        self, func: Any, types: Iterable[type], args: Any = (), kwargs: Any = None
    ) -> Any:
        """Run an operation and see what it made; a DTensor's parts are seen one level below."""
        if any(issubclass(kind, DTensor) for kind in types):
            return NotImplemented
        made = func(*args, **(kwargs or {}))
        self.see(made)
        return made

    def see(self, made: Any) -> None:
        """Count the tensors that an operation returned."""
        for leaf in tree_leaves(made):
            if isinstance(leaf, Tensor):
                self._see(_storage(leaf), MADE)

    def _see(self, storage: torch.UntypedStorage, kind: str) -> None:
        key = id(storage)
        if key in self._sizes:
            return
        self._sizes[key] = storage.nbytes(), kind
        self._watched[key] = weakref.ref(storage, self._gone(key))
        self._add(storage.nbytes(), kind)

    def _gone(self, key: int) -> Callable[[object], None]:
        def forget(_: object) -> None:
            self._watched.pop(key, None)
            size, kind = self._sizes.pop(key, (0, MADE))
            self._add(-size, kind)

        return forget

    def _changed(self, storage: torch.UntypedStorage, size: int) -> None:
        key = id(storage)
        if key in self._sizes:
            before, kind = self._sizes[key]
            self._add(-before, kind)
            self._sizes[key] = size, RESIZED
            self._add(size, RESIZED)

    def _add(self, size: int, kind: str) -> None:
        self.now_bytes += size
        self.kinds[kind] += size
        if self.now_bytes > self.peak_bytes:
            self.peak_bytes, self.peak_kinds = self.now_bytes, self.kinds.copy()


def _storage(tensor: Tensor) -> torch.UntypedStorage:
    local = tensor.to_local() if isinstance(tensor, DTensor) else tensor
    return local.untyped_storage()
