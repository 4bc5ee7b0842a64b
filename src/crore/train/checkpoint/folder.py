"""A folder of checkpoints: their names, and how one appears and disappears whole.

`step-00000120` is finished; a second checkpoint of the same step is `step-00000120-2`. What is
still being written ends in `.partial`, what is being removed in `.removed`: a process killed at
any moment leaves finished checkpoints, and leftovers that `sweep` removes.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from crore.train.checkpoint.team import first_line

_FINISHED: Final = re.compile(r"step-([0-9]{8,})(?:-([0-9]+))?")
_LEFTOVER: Final = re.compile(_FINISHED.pattern + r"\.(partial|removed)")


@dataclass(frozen=True, kw_only=True, slots=True, order=True)
class Saved:
    """One finished checkpoint; later ones compare greater."""

    step: int
    """Optimizer steps done."""
    attempt: int
    """1, or 2, 3, … where the same step was saved again."""
    path: Path
    """Its folder."""


def finished(folder: Path) -> list[Saved]:
    """Return the finished checkpoints of a folder, newest first; none where there is no folder."""
    entries = list(folder.iterdir()) if folder.is_dir() else []
    matches = [(_FINISHED.fullmatch(path.name), path) for path in entries]
    found = [
        Saved(step=int(match[1]), attempt=int(match[2] or 1), path=path)
        for match, path in matches
        if match and path.is_dir()
    ]
    return sorted(found, reverse=True)


def draft(folder: Path, step: int) -> Path:
    """Make and return the empty folder in which a checkpoint of `step` is written."""
    attempt = max((saved.attempt for saved in finished(folder) if saved.step == step), default=0)
    name = f"step-{step:08d}" + (f"-{attempt + 1}" if attempt else "")
    path = folder / f"{name}.partial"
    path.mkdir(parents=True)
    return path


def publish(path: Path) -> Path:
    """Give a draft whose files are on the disk its final name, and see the name to the disk."""
    _sync(path)
    final = path.rename(path.with_suffix(""))
    _sync(final.parent)
    return final


def discard(path: Path) -> str | None:
    """Remove a checkpoint or a draft so that no half of it can be taken for whole.

    Returns None, or why it is still there.
    """
    try:
        doomed = path.rename(path.with_suffix(".removed"))
        shutil.rmtree(doomed)
    except FileNotFoundError:
        return None
    except OSError as error:
        return f"{path.name} not removed: {first_line(error)}"
    return None


def sweep(folder: Path) -> None:
    """Remove what killed processes left; only for the one process that writes to this folder."""
    for path in list(folder.iterdir()) if folder.is_dir() else []:
        if _LEFTOVER.fullmatch(path.name):
            shutil.rmtree(path, ignore_errors=True)


def superseded(folder: Path, step: int, keep: int, damaged: Collection[Path]) -> list[Path]:
    """Return what is no longer needed once `step` is finished.

    That is all but the newest `keep` sound steps up to `step`, earlier attempts at a step that is
    kept, and the `damaged`.
    """
    everything = finished(folder)
    sound = [saved for saved in everything if saved.path not in damaged and saved.step <= step]
    newest = {saved.step: saved.path for saved in reversed(sound)}
    kept = {newest[step] for step in sorted(newest)[-keep:]}
    kept |= {saved.path for saved in everything if saved.step > step} - set(damaged)
    return [saved.path for saved in everything if saved.path not in kept]


def _sync(folder: Path) -> None:
    """Make the names in a folder survive a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
