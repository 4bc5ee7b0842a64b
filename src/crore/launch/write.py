"""The folder of a launch: whole, or as it was."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from crore.errors import InputError
from crore.io import dump_json, read_json, write_text
from crore.launch.export import Export, File
from crore.launch.launch import Launch
from crore.launch.world_map import SCHEMA_VERSION, world_map

MAP: Final = "map.json"
README: Final = "README.txt"
PLAN: Final = "plan.json"
_KIND: Final = "launch"


def write_launch(
    folder: Path, launch: Launch, export: Export, plan: str, head: Mapping[str, Any]
) -> tuple[str, ...]:
    """Write an export, its plan, its map and its README to a folder; return the files' names.

    `head` are the first keys of the map: which command wrote it, from which constants. A folder
    that is new or empty appears whole. One that a launch wrote before is written again, file by
    file, and what a run left there stays. Raises InputError where a file that no launch wrote
    would be lost, and where the folder cannot be written.
    """
    names = (*(file.name for file in export.files), PLAN, README, MAP)
    record = {**head, **world_map(launch, export, names)}
    files = (
        *export.files,
        File(name=PLAN, text=plan),
        File(name=README, text=readme(launch, export)),
        File(name=MAP, text=dump_json(_KIND, SCHEMA_VERSION, record) + "\n"),
    )
    try:
        if folder.is_dir() and any(folder.iterdir()):
            _again(folder, files)
        else:
            _anew(folder, files)
    except OSError as error:
        raise InputError(f"cannot write {_name(folder)}: {error.strerror}") from error
    return names


def _anew(folder: Path, files: tuple[File, ...]) -> None:
    """Write beside the folder, then let it take the name."""
    folder = folder.resolve()
    draft = folder.with_name(f".{folder.name[:80]}.{secrets.token_hex(4)}")
    draft.mkdir()
    try:
        _put(draft, files)
        draft.replace(folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _again(folder: Path, files: tuple[File, ...]) -> None:
    ours = _written_before(folder)
    for file in files:
        if file.name not in ours and (folder / file.name).exists():
            raise InputError(
                f"{_name(folder / file.name)} is of no launch and would be lost: give another -o"
            )
    _put(folder, files)
    for name in ours - {file.name for file in files}:
        (folder / name).unlink(missing_ok=True)


def _written_before(folder: Path) -> set[str]:
    """Return the names of the files that a launch wrote to a folder."""
    if not (folder / MAP).is_file():
        raise InputError(f"{_name(folder)} holds other files: give -o a new or empty folder")
    names = read_json(folder / MAP, _KIND, SCHEMA_VERSION).get("files")
    if not isinstance(names, list) or not all(
        isinstance(name, str) and Path(name).name == name for name in names
    ):
        raise InputError(f"{_name(folder / MAP)} is damaged: give -o a new or empty folder")
    return set(names)


def _put(folder: Path, files: tuple[File, ...]) -> None:
    for file in files:
        path = folder / file.name
        write_text(path, file.text)
        if file.runs:
            path.chmod(path.stat().st_mode | 0o111)


def _name(path: Path) -> str:
    return str(path)[-60:]


def readme(launch: Launch, export: Export) -> str:
    """Return README.txt: what to run, what it needs, what the target leaves out."""
    from crore import __version__

    worlds = f"{launch.worlds:,} worlds of " if launch.is_fleet else ""
    ranks = f"{launch.layout.ranks:,} rank{'s' if launch.layout.ranks > 1 else ''}"
    islands = f" on {launch.islands:,} islands" if launch.islands > 1 else ""
    nodes = f"{launch.nodes:,} node{'s' if launch.nodes > 1 else ''} of {launch.node_gpus}"
    parts = (
        ("Run", export.run),
        ("It needs", export.needs),
        ("What it leaves out of the plan", export.leaves_out),
    )
    head = (
        f"{launch.spec.name}: {worlds}{ranks} ({nodes}){islands}; "
        f"{launch.steps:,} steps of {launch.sequences:,} sequences of {launch.seq_len:,} tokens"
        f"{' a world' if launch.is_fleet else ''}.\n"
        f"Written by crore {__version__} for {export.written_for}. {MAP} says which world, island "
        "and GPU is where.\n"
    )
    return head + "".join(
        f"\n{title}\n" + "".join(f"  {line}\n" for line in lines) for title, lines in parts if lines
    )
