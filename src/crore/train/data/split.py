"""What is held out for validation: about one percent of each source, whole documents, by hash.

A document is held out or not by what it says, so copies of it, in this source or another, fall on
the same side, and the split is the same in every run.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from crore.train.data.corpus import Document

RULE: Final = (
    "documents of smallest hash to 1 % of a source's bytes, or to 50 kB or 5 % if that is more"
)
"""The split in words, for the data card."""
_SHARE, _LEAST_BYTES, _MOST_SHARE = 0.01, 50_000, 0.05


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Survey:
    """The documents of one source, counted."""

    hashes: NDArray[np.uint64]
    """`[documents]`: of the group each belongs to."""
    sizes_bytes: NDArray[np.int64]
    """`[documents]`: as UTF-8."""

    @property
    def total_bytes(self) -> int:
        """All text of the source."""
        return int(self.sizes_bytes.sum())


def survey(documents: Iterable[Document]) -> Survey:
    """Count the documents of a source."""
    hashes, sizes = array("Q"), array("q")
    for document in documents:
        hashes.append(group_hash(document))
        sizes.append(len(document.text.encode()))
    return Survey(
        hashes=np.array(hashes, dtype=np.uint64), sizes_bytes=np.array(sizes, dtype=np.int64)
    )


def group_hash(document: Document) -> int:
    """Return 64 bits that copies of a document share, and all documents of its group."""
    name = document.group or document.text.strip()
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "little")


def held_out(surveys: Sequence[Survey]) -> frozenset[int]:
    """Return the hashes of the groups of documents held out for validation.

    None of a source that has only one group: something must be left to train on.
    """
    return frozenset(number for each in surveys for number in _smallest(each))


def _smallest(found: Survey) -> list[int]:
    """Take groups of one source from the smallest hash up; those too large are passed over."""
    groups, member = np.unique(found.hashes, return_inverse=True)
    sizes = np.bincount(member, weights=found.sizes_bytes, minlength=len(groups))
    total = float(sizes.sum())
    wanted = max(_SHARE * total, min(_LEAST_BYTES, _MOST_SHARE * total))
    taken: list[int] = []
    size = 0.0
    for number, group_bytes in zip(groups[:-1], sizes[:-1], strict=True):
        if size >= wanted:
            break
        if size + group_bytes <= 2 * wanted:
            taken.append(int(number))
            size += group_bytes
    if not taken and len(groups) > 1:
        taken = [int(groups[np.argmin(sizes)])]
    return taken
