"""Text to tokens before a run starts, with progress on a terminal."""

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from crore.cli.progress import steps

if TYPE_CHECKING:
    from crore.train.data import Dataset
    from crore.train.job import Job

_WORDS = {
    "read": "reading the text", "tokenizer": "training a tokenizer", "encode": "encoding",
    "wait": "another process prepares the same text",
}  # fmt: skip


def prepared(job: "Job") -> "Dataset":
    """Prepare a job's text, or find it prepared; return it."""
    from crore.train.data import prepare

    text = job.text
    with _bar(quiet=job.quiet) as progress:
        return prepare(
            text.sources, cache=text.cache, vocab=job.spec.vocab, tokenizer=text.tokenizer,
            seq_len=job.seq_len, seed=job.seed, progress=progress,
        )  # fmt: skip


@contextlib.contextmanager
def _bar(*, quiet: bool) -> Iterator[Callable[[str, float], None] | None]:
    with contextlib.nullcontext() if quiet else steps() as show:
        yield None if show is None else lambda what, share: show(share, _WORDS.get(what, what))
