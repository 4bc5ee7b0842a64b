"""`crore chat`: talk to a model in the terminal."""

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from crore.cli.arguments import AsJson
from crore.cli.talking import LLAMA_CPP, folder_of, known_engine, model_of, other_engine
from crore.errors import InputError

if TYPE_CHECKING:
    from crore.serve.chat import Answering, Conversation

Model = Annotated[
    str | None,
    typer.Argument(
        metavar="RUN|MODEL",
        help="A run's folder, a .gguf file, or smollm2-135m-instruct (if left out).",
    ),
]
Ask = Annotated[str | None, typer.Option(metavar="TEXT", help="Answer this one question and end.")]
System = Annotated[
    str | None, typer.Option(metavar="TEXT", help="What the model is told before anything else.")
]
Context = Annotated[int, typer.Option(metavar="N", help="Tokens of a whole conversation.")]
Threads = Annotated[int, typer.Option(metavar="N", help="CPU threads; all cores but one if 0.")]
Temperature = Annotated[float, typer.Option(metavar="T", help="0 takes the likeliest word.")]
MaxTokens = Annotated[int, typer.Option(metavar="N", help="Longest answer.")]
EngineName = Annotated[
    str, typer.Option("--engine", help="llamacpp; vllm or transformers, where installed.")
]
Seed = Annotated[int | None, typer.Option(metavar="N", help="For the same answer again.")]


def chat(
    model: Model = None, ask: Ask = None, system: System = None, context: Context = 4096,
    threads: Threads = 0, temperature: Temperature = 0.7, max_tokens: MaxTokens = 1024,
    seed: Seed = None, engine: EngineName = LLAMA_CPP, as_json: AsJson = False,
) -> None:  # fmt: skip
    """Talk to a model in the terminal.

    crore chat

    Ctrl-C stops an answer, Ctrl-D leaves. A model that was only pretrained goes on from your text.
    """
    from crore.serve.chat import Conversation, Sampling

    if as_json and ask is None:
        raise InputError('--json is for one answer: add --ask "…"')
    if ask is not None and not ask.strip():
        raise InputError(
            '--ask is empty: give a question, for example --ask "Why is the sky blue?"'
        )
    sampling = Sampling(temperature=temperature, max_tokens=max_tokens, seed=seed)
    known_engine(engine)
    made = _llama_cpp(model, context, threads) if engine == LLAMA_CPP else _other(engine, model)
    with made as (answering, usual):
        told = usual if system is None else system
        conversation = Conversation(engine=answering, sampling=sampling, system=told)
        if ask is None:
            _talk(conversation)
        else:
            _answer_one(conversation, ask, as_json=as_json)


@contextlib.contextmanager
def _llama_cpp(model: str | None, context: int, threads: int) -> Iterator[tuple["Answering", str]]:
    """Give llama.cpp, and what the model is told where the user says nothing."""
    from crore.serve.engine import EngineSettings, start

    found = model_of(model, "chat")
    running = start(EngineSettings(path=found.path, context=context, threads=threads), found.name)
    try:
        yield running, found.system
    finally:
        running.close()


@contextlib.contextmanager
def _other(engine: str, model: str | None) -> Iterator[tuple["Answering", str]]:
    """Give vLLM or transformers."""
    from crore.serve.remote import remote

    folder = folder_of(engine, model)
    with other_engine(engine, folder, model) as behind:
        yield remote(behind, folder), ""


def _talk(conversation: "Conversation") -> None:
    from crore.serve.terminal import HELP, talk

    engine = conversation.engine
    kind = "" if engine.chats else "; it was only pretrained: it goes on from your text"
    size = f", {engine.context:,} tokens of context" if engine.context else ""
    typer.echo(f"{engine.name}{size}{kind}\n{HELP}")
    talk(conversation, _say)


def _say(text: str) -> None:
    typer.echo(text, nl=False)


def _answer_one(conversation: "Conversation", question: str, *, as_json: bool) -> None:
    from crore.cli.document import dumped
    from crore.serve.chat import CHAT_VERSION, answer_record

    pieces = []
    try:
        for piece in conversation.ask(question):
            _say("" if as_json else piece.text)
            pieces.append(piece)
    except KeyboardInterrupt:
        raise typer.Abort from None
    record = answer_record(conversation.engine, question, pieces)
    typer.echo(dumped("answer", CHAT_VERSION, record) if as_json else "")
