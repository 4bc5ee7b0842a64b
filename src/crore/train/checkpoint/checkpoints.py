"""The front of the room: save in the background, restore the newest sound one, keep the last few.

Every rank makes the same calls in the same order.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor
from torch.distributed import ProcessGroup

from crore.errors import CroreError, InputError
from crore.train.checkpoint import folder as folders
from crore.train.checkpoint import reading, writing
from crore.train.checkpoint.folder import Saved
from crore.train.checkpoint.manifest import Damaged
from crore.train.checkpoint.progress import Progress
from crore.train.checkpoint.team import RankFailed, Team, first_line


class SaveFailed(CroreError):
    """A checkpoint could not be written; the earlier ones are as they were."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Facts:
    """What a restored checkpoint says besides its tensors."""

    step: int
    """Optimizer steps done when it was saved."""
    values: dict[str, Any]
    """What rank 0 gave to `save` as facts."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Outcome:
    """How a save in the background ended."""

    problem: str | None = None
    """Why nothing was written; None where it was."""
    notes: list[str] = field(default_factory=list)
    """What else there is to say."""


class Checkpoints:
    """The checkpoints of one run, in one folder that all ranks share.

    `keep` is how many finished ones stay. `group` is a gloo group of all ranks for this purpose
    alone, because saving talks to the other ranks from a thread of its own; None without
    torch.distributed. Its timeout must exceed the longest write or verification; call `wait`
    before it is destroyed. `progress` hears, in the caller's thread, how far a restore is.

    One run writes to a folder at a time; its first save removes what a killed run left.
    """

    def __init__(
        self,
        folder: Path,
        *,
        keep: int = 3,
        group: ProcessGroup | None = None,
        progress: Progress | None = None,
    ) -> None:
        assert keep >= 1
        self._folder, self._keep, self._team = folder, keep, Team(group)
        self._progress = progress
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="checkpoint")
        self._pending: Future[_Outcome] | None = None
        self._messages: list[str] = []
        self._damaged: set[Path] = set()
        self._draft: Path | None = None  # what rank 0 is writing
        self._swept = False

    def save(self, step: int, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
        """Copy the tensors and return; a thread writes them.

        `tensors` are what this rank holds, by fully qualified name: shards as DTensor, or whole;
        a whole one on several ranks is the same on each. `facts` is anything JSON holds; rank 0's
        is kept. Waits for an unfinished save first. A failure is told by `poll` or `wait`.
        """
        self._settle()
        known = json.loads(json.dumps(dict(facts), allow_nan=False))
        content = writing.Content(step=step, tensors=writing.staged(tensors), facts=known)
        self._pending = self._thread.submit(self._write, content)

    def wait(self) -> None:
        """Return once the last save is on the disk; raises `SaveFailed` if it cannot be.

        What is raised here is not told again by `poll`.
        """
        if problem := self._outcome():
            raise SaveFailed(problem)

    def poll(self) -> list[str]:
        """Return the messages since the last call, one line each; does not wait."""
        if self._pending is not None and self._pending.done():
            self._settle()
        messages, self._messages = self._messages, []
        return messages

    def restore(self, tensors: Mapping[str, Tensor]) -> Facts | None:
        """Load the newest sound checkpoint into `tensors`; None if there is none.

        They may be sharded otherwise, over another number of ranks, than those saved. A damaged
        checkpoint is passed over with a message. Raises `InputError` when names, shapes or types
        differ from those saved: nothing is loaded in part.
        """
        self._settle()
        return self._newest_sound(self._listed(), tensors)

    def roll_back(self, tensors: Mapping[str, Tensor], step: int) -> Facts | None:
        """Load the newest sound checkpoint of at most `step` steps, and drop all later ones.

        What came after is another history, which a restart must not go back to. Otherwise as
        `restore`; when there is nothing to load, nothing is dropped.
        """
        self._settle()
        saved = self._listed()
        facts = self._newest_sound([one for one in saved if one.step <= step], tensors)
        if facts is not None:
            later = [one.path for one in saved if one.step > facts.step]
            self._messages += self._team.share(lambda: _discarded(later))
        return facts

    def steps(self) -> list[int]:
        """Return the steps of the finished checkpoints, oldest first."""
        return sorted({saved.step for saved in folders.finished(self._folder)})

    @property
    def done(self) -> bool:
        """Whether the last save has ended, so that `wait` returns at once."""
        return self._pending is None or self._pending.done()

    def path(self, step: int) -> Path | None:
        """Return the folder of the newest finished checkpoint of a step; None if there is none."""
        found = [saved.path for saved in folders.finished(self._folder) if saved.step == step]
        return found[0] if found else None

    def _listed(self) -> list[Saved]:
        """Return the finished checkpoints as rank 0 sees them, newest first."""
        try:
            return self._team.share(lambda: folders.finished(self._folder))
        except RankFailed as error:
            raise InputError(f"cannot read checkpoints in {self._folder}: {error}") from error

    def _newest_sound(self, saved: list[Saved], tensors: Mapping[str, Tensor]) -> Facts | None:
        """Load the first of `saved` that is sound, and say which are not."""
        passed: list[str] = []
        facts = None
        for one in saved:
            try:
                contents = reading.load(self._team, one.path, tensors, self._progress)
            except Damaged as error:
                self._damaged.add(one.path)
                passed.append(f"checkpoint {one.step} is damaged ({error})")
                continue
            facts = Facts(step=contents.step, values=contents.facts)
            break
        end = f"{facts.step} restored" if facts else "no sound one is left"
        self._messages += [f"{text}; {end}" for text in passed]
        return facts

    def _settle(self) -> None:
        """Wait for a save that is still going on, and turn its failure into a message."""
        if problem := self._outcome():
            self._messages.append(problem)

    def _outcome(self) -> str | None:
        """Wait for the last save and return why it failed, once; keep its notes as messages."""
        if self._pending is None:
            return None
        outcome, self._pending = self._pending.result(), None
        self._messages += outcome.notes
        return outcome.problem

    def _write(self, content: writing.Content) -> _Outcome:
        """Write one checkpoint, in the background; every error ends here, as a line of text."""
        try:
            draft = self._team.share(lambda: self._begin(content.step))
            writing.write(self._team, draft, content)
            return _Outcome(notes=self._team.share(lambda: self._finish(draft, content.step)))
        except Exception as error:
            if self._draft is not None:
                folders.discard(self._draft)
            problem = f"checkpoint {content.step} not written: {first_line(error)}"
            return _Outcome(problem=f"{problem}; {self._kept()}")
        finally:
            content.tensors.clear()  # the memory is free before anyone hears that we are done

    def _begin(self, step: int) -> Path:
        """Make room for a new checkpoint, on rank 0."""
        if not self._swept:
            folders.sweep(self._folder)
            self._swept = True
        self._draft = folders.draft(self._folder, step)
        return self._draft

    def _finish(self, draft: Path, step: int) -> list[str]:
        """Make a checkpoint final and remove what it supersedes, on rank 0."""
        folders.publish(draft)
        self._draft = None
        return _discarded(folders.superseded(self._folder, step, self._keep, self._damaged))

    def _kept(self) -> str:
        sound = [one for one in folders.finished(self._folder) if one.path not in self._damaged]
        return f"{sound[0].step} kept" if sound else "none kept yet"


def _discarded(paths: list[Path]) -> list[str]:
    """Remove checkpoints, and return what there is to say about those that would not go."""
    return [text for text in map(folders.discard, paths) if text]
