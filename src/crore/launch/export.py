"""What a target makes of a launch: files, how to start them, and what they leave out."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class File:
    """One text file of an export."""

    name: str
    text: str
    runs: bool = False
    """Whether it is a program."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Export:
    """A plan in the words of one target."""

    target: str
    written_for: str
    """The version of the target whose words these are."""
    files: tuple[File, ...]
    world_file: str
    """The file that starts one world; in a fleet the world's number is its parameter."""
    run: tuple[str, ...]
    """How to start it, line by line."""
    needs: tuple[str, ...]
    """What must be there first, line by line."""
    leaves_out: tuple[str, ...]
    """What of the plan the target cannot express, line by line."""
