"""llama.cpp in this process: one model, answers streamed piece by piece.

The engine listens on a loopback port of its own as well (its HTTP server cannot be left out), which
asks for a key that nobody else has.
"""

from __future__ import annotations

import os
import secrets
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Final

from crore.errors import CroreError, InputError
from crore.serve.gguf_header import Value, read_header

CONTEXT: Final = 4096
"""Tokens of a conversation where none are asked for; the engine keeps to what the model knows."""
CONTEXT_STEP: Final = 256
"""llama.cpp rounds a context up to this."""
PROMPT_CACHE_MIB: Final = 256
"""Memory for the states of earlier conversations (llama.cpp's own choice is 8 GiB)."""
TOO_LONG: Final = "exceed_context_size_error"


@dataclass(frozen=True, kw_only=True, slots=True)
class EngineSettings:
    """What the engine is started with."""

    path: Path
    """GGUF file."""
    context: int = CONTEXT
    """Tokens of one conversation, question and answer."""
    threads: int = 0
    """0: all cores but one."""
    slots: int = 1
    """Conversations answered at a time."""
    page: bool = False
    """The web page too."""

    def __post_init__(self) -> None:
        for name, value, least in (("context", self.context, 16), ("slots", self.slots, 1),
                                   ("threads", self.threads, 0)):  # fmt: skip
            if not least <= value < 1 << 24:
                raise InputError(f"{name} must be a whole number from {least}, not {value}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Piece:
    """What one message of a stream brings."""

    text: str = ""
    finish: str = ""
    """stop or length, once the answer has ended."""
    tokens: int = 0
    """Of the whole answer, once it has ended."""
    tokens_per_s: float = 0.0
    """While answering, the reading of the prompt left out; once it has ended."""


class AnswerError(CroreError):
    """The engine could not answer; `too_long` when the conversation outgrew the context."""

    def __init__(self, error: Mapping[str, Any]) -> None:
        self.too_long = error.get("type") == TOO_LONG
        super().__init__(f"the engine did not answer: {str(error.get('message', error))[:160]}")


def threads_of(asked: int) -> int:
    """Return the threads to use: as asked, or all cores this process may use but one.

    One core stays free because the engine's threads wait for each other by spinning.
    """
    return asked or max(1, len(os.sched_getaffinity(0)) - 1)


@dataclass(slots=True)
class Engine:
    """A model that answers; close it when done."""

    settings: EngineSettings
    name: str
    """Of the model, as its API gives it."""
    header: dict[str, Value]
    """Of the file."""
    key: str = field(repr=False)
    """Of its HTTP server."""
    server: Any
    """llama.cpp's own, None once closed."""
    _workers: list[threading.Thread] = field(default_factory=list)

    @property
    def address(self) -> str:
        """URL of its HTTP server."""
        return str(self.server.listening_address)

    @property
    def chats(self) -> bool:
        """Whether the model was taught turns: its file has a chat template."""
        return "tokenizer.chat_template" in self.header

    @property
    def context(self) -> int:
        """Tokens of one conversation."""
        return context_of(self.settings, self.header)

    def chat(self, messages: list[dict[str, str]], **sampling: Any) -> Iterator[Piece]:
        """Yield the answer to a conversation in OpenAI's form; leaving the loop stops it."""
        body = {"messages": messages, **sampling}
        return self._stream("handle_chat_completions", body)

    def complete(self, text: str | list[int], **sampling: Any) -> Iterator[Piece]:
        """Yield how the text, or its tokens, go on; leaving the loop stops it."""
        return self._stream("handle_completions", {"prompt": text, **sampling})

    def _stream(self, handler: str, body: dict[str, Any]) -> Iterator[Piece]:
        """Run one request on a thread of its own, so that Ctrl-C reaches the caller at once.

        Nothing here but the engine itself refers to the server: the traceback of an error that is
        kept somewhere would keep it alive beyond `close`, and Python cannot end while it is.
        """
        body |= {"stream": True, "stream_options": {"include_usage": True}}
        pieces: SimpleQueue[Any] = SimpleQueue()
        stop = threading.Event()

        def each(chunk: dict[str, Any]) -> bool:
            pieces.put(chunk)
            return stop.is_set()

        def work() -> None:
            try:
                getattr(self.server, handler)(body, each)
            except Exception as error:  # whatever it is, the caller is told and not left waiting
                pieces.put({"error": {"message": str(error)}})
            pieces.put(None)

        worker = threading.Thread(target=work)
        self._workers = [*filter(threading.Thread.is_alive, self._workers), worker]
        worker.start()
        try:
            while (chunk := pieces.get()) is not None:
                yield piece_of(chunk)
        finally:
            stop.set()

    def close(self) -> None:
        """Let the model go, once every answer has stopped."""
        for worker in self._workers:
            worker.join()
        self.server = None


def context_of(settings: EngineSettings, header: Mapping[str, Value]) -> int:
    """Return the tokens of one conversation: at least as asked, unless the model knows fewer."""
    asked = -(-settings.context // CONTEXT_STEP) * CONTEXT_STEP
    known = header.get(f"{header.get('general.architecture')}.context_length", asked)
    return min(asked, int(known))


def start(settings: EngineSettings, name: str = "") -> Engine:
    """Load a model.

    Raises InputError when the engine is not installed, the file is no model, or it does not fit.
    """
    header, name = read_header(settings.path), name or settings.path.stem
    key = secrets.token_urlsafe(24)
    native = _native()
    parameters = _parameters(native, settings, context_of(settings, header))
    parameters.model_alias, parameters.api_keys = {name}, [key]
    try:
        server = native.Server(parameters)
    except RuntimeError as error:
        kind = str(header.get("general.architecture", "unknown"))[:30]
        raise InputError(
            f"llama.cpp cannot load {str(settings.path)[-80:]} (architecture {kind}): its file is "
            "damaged, the engine too old for it, or memory too small (crore fit says)"
        ) from error
    # It answers this once its loop runs; to close it before then would wait without end.
    server.handle_metrics()
    return Engine(settings=settings, name=name, header=header, key=key, server=server)


def _native() -> Any:
    try:
        import xllamacpp
    except ImportError as error:
        raise InputError(
            "crore chat and serve need xllamacpp: pip install 'crore[serve]'"
        ) from error
    return xllamacpp


def _parameters(native: Any, settings: EngineSettings, context: int) -> Any:
    made = native.CommonParams()
    made.model.path = str(settings.path)
    made.cors_origins = ""  # pages of other sites get no answer
    made.port = 0  # one that is free
    made.ui, made.endpoint_slots, made.endpoint_metrics = settings.page, False, True
    made.n_parallel = settings.slots
    made.n_ctx = context * settings.slots
    made.cpuparams.n_threads = made.cpuparams_batch.n_threads = threads_of(settings.threads)
    made.cache_ram_mib = PROMPT_CACHE_MIB
    made.load_mode = native.llama_load_mode.LLAMA_LOAD_MODE_NONE
    made.warmup = False
    made.verbosity = -1
    return made


def piece_of(chunk: Mapping[str, Any]) -> Piece:
    """Return what one message of an OpenAI-compatible stream brings; AnswerError for an error."""
    if error := chunk.get("error"):
        raise AnswerError(error if isinstance(error, Mapping) else {"message": error})
    choice: Mapping[str, Any] = next(iter(chunk["choices"]), {})
    return Piece(
        text=choice.get("text") or choice.get("delta", {}).get("content") or "",
        finish=choice.get("finish_reason") or "",
        tokens=(chunk.get("usage") or {}).get("completion_tokens", 0),
        tokens_per_s=(chunk.get("timings") or {}).get("predicted_per_second", 0.0),
    )
