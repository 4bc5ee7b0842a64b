"""`crore serve`: a model behind an OpenAI-compatible API, with a page to talk to it."""

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from crore.cli.arguments import CatalogFile
from crore.cli.chat import Context, EngineName, Model, Threads
from crore.cli.planner import Planner, beside, is_model, serve_planner
from crore.cli.talking import LLAMA_CPP, folder_of, known_engine, model_of, other_engine
from crore.errors import InputError

if TYPE_CHECKING:
    from crore.serve.server import Behind

Port = Annotated[int, typer.Option(metavar="P", help="0 takes a free one.", min=0, max=65535)]
Host = Annotated[str, typer.Option(metavar="ADDRESS", help="Where to listen.")]
ApiKey = Annotated[
    str,
    typer.Option(
        metavar="KEY", envvar="CRORE_API_KEY", help="Asked of every client; a must beyond loopback."
    ),
]
AtATime = Annotated[int, typer.Option(metavar="N", help="Answers made at a time.")]
Concurrency = Annotated[
    int, typer.Option(metavar="N", help="Answers made or waited for; more are refused (429).")
]
MaxTokens = Annotated[int, typer.Option(metavar="N", help="Longest answer.")]
MaxBody = Annotated[int, typer.Option(metavar="BYTES", help="Largest request.")]


def serve(
    model: Model = None, port: Port = 8080, host: Host = "127.0.0.1", api_key: ApiKey = "",
    engine: EngineName = "llamacpp", context: Context = 4096, parallel: AtATime = 4,
    threads: Threads = 0, concurrency: Concurrency = 64, max_tokens: MaxTokens = 4096,
    max_body: MaxBody = 1_000_000, planner: Planner = False, catalog: CatalogFile = None,
) -> None:  # fmt: skip
    """Serve a model by API and web page, or the planner's page.

    crore serve

    crore serve --planner ten_million

    On this machine alone, unless --host says otherwise; Ctrl-C ends it.
    """
    from crore.serve.requests import Limits
    from crore.serve.server import Binding, listen, url_of
    from crore.serve.server import serve as answer

    limits = Limits(body_bytes=max_body, tokens=max_tokens, requests=concurrency)
    binding = Binding(host=host, port=port, key=api_key, limits=limits)
    if planner and not is_model(model):
        serve_planner(model, binding, catalog)
        return
    if catalog is not None and not planner:
        raise InputError("--catalog is for --planner: a model to talk to has none")
    known_engine(engine)
    made = (
        _llama_cpp(model, context=context, threads=threads, slots=parallel)
        if engine == LLAMA_CPP
        else other_engine(engine, folder_of(engine, model), model)
    )
    with contextlib.ExitStack() as held:
        listening = held.enter_context(listen(binding))
        others = held.enter_context(beside(catalog, binding.key)) if planner else {}
        behind = held.enter_context(made)

        def ready() -> None:
            url = url_of(listening)
            page = " (page)" if engine == LLAMA_CPP else ""
            also = "".join(f", the planner at {url}{path}/" for path in others)
            typer.echo(
                f"{behind.name} at {url}{page} and {url}/v1 (OpenAI's API){also}; Ctrl-C ends it"
            )

        answer(listening, binding, behind, ready, others)


@contextlib.contextmanager
def _llama_cpp(model: str | None, **settings: int) -> Iterator["Behind"]:
    """Give llama.cpp with its page; it ends with the block."""
    from crore.serve.engine import EngineSettings, start
    from crore.serve.server import Behind

    found = model_of(model, "serve")
    running = start(EngineSettings(path=found.path, page=True, **settings), found.name)
    try:
        yield Behind(address=running.address, key=running.key, name=running.name)
    finally:
        running.close()
