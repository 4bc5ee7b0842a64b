"""Bytes of all tensors that are alive on a CPU, whose allocator does not count them."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any, Self

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class LiveBytes(TorchDispatchMode):
    """Counts storages that operations make while it is entered, and those it is told to hold.

    A storage counts from the first tensor on it to its end, at the size it was given last: FSDP
    shrinks and grows them. A storage is one Python object as long as it lives, so its identity
    names it. What a kernel takes for itself and frees again is not seen.
    """

    def __init__(self, held: Iterable[Tensor] = ()) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now_bytes, self.peak_bytes = 0, 0
        self._sizes: dict[int, int] = {}
        self._watched: dict[int, weakref.ref[Any]] = {}
        self._resize = torch.UntypedStorage.resize_
        for tensor in held:
            self._see(tensor)

    def __enter__(self) -> Self:
        """Begin to count; the peak starts from what is alive now."""
        self.peak_bytes = self.now_bytes
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
        for leaf in tree_leaves(made):
            if isinstance(leaf, Tensor):
                self._see(leaf)
        return made

    def _see(self, tensor: Tensor) -> None:
        local = tensor.to_local() if isinstance(tensor, DTensor) else tensor
        storage = local.untyped_storage()
        key = id(storage)
        if key in self._sizes:
            return
        self._sizes[key] = storage.nbytes()
        self._watched[key] = weakref.ref(storage, self._gone(key))
        self._add(storage.nbytes())

    def _gone(self, key: int) -> Callable[[object], None]:
        def forget(_: object) -> None:
            self._watched.pop(key, None)
            self._add(-self._sizes.pop(key, 0))

        return forget

    def _changed(self, storage: torch.UntypedStorage, size: int) -> None:
        key = id(storage)
        if key in self._sizes:
            self._add(size - self._sizes[key])
            self._sizes[key] = size

    def _add(self, size: int) -> None:
        self.now_bytes += size
        self.peak_bytes = max(self.peak_bytes, self.now_bytes)
