"""`crore serve`: a model behind an OpenAI-compatible API, with a page to talk to it."""

from typing import Annotated

import typer

from crore.cli.chat import Context, Model, Threads
from crore.cli.talking import model_of
from crore.errors import InputError, UnknownName

OTHERS = {
    "vllm": ("vllm", "vllm serve {model} --host 127.0.0.1 --port {port}"),
    "transformers": (
        "'transformers[serving]>=5'",
        "transformers serve {model} --host 127.0.0.1 --port {port}",
    ),
}
"""Engines that bring a server of their own -> what pip installs, and the line that starts them."""
ENGINES = ("llamacpp", *OTHERS)
Port = Annotated[int, typer.Option(metavar="P", help="0 takes a free one.", min=0, max=65535)]
Host = Annotated[str, typer.Option(metavar="ADDRESS", help="Where to listen.")]
ApiKey = Annotated[
    str,
    typer.Option(
        metavar="KEY", envvar="CRORE_API_KEY", help="Asked of every client; a must beyond loopback."
    ),
]
EngineName = Annotated[
    str, typer.Option("--engine", help="llamacpp; vllm or transformers: their line.")
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
    max_body: MaxBody = 1_000_000,
) -> None:  # fmt: skip
    """Serve a model: an OpenAI-compatible API and a web page.

    crore serve

    On this machine alone, unless --host says otherwise; Ctrl-C ends it.
    """
    from crore.serve.engine import EngineSettings, start
    from crore.serve.requests import Limits
    from crore.serve.server import Binding, listen, url_of
    from crore.serve.server import serve as answer

    _check_engine(engine, model or "MODEL", port)
    limits = Limits(body_bytes=max_body, tokens=max_tokens, requests=concurrency)
    binding = Binding(host=host, port=port, key=api_key, limits=limits)
    found = model_of(model, "serve")
    settings = EngineSettings(
        path=found.path, context=context, threads=threads, slots=parallel, page=True
    )
    with listen(binding) as listening:
        running = start(settings, found.name)

        def ready() -> None:
            url = url_of(listening)
            typer.echo(
                f"{running.name} at {url} (page) and {url}/v1 (OpenAI's API); Ctrl-C ends it"
            )

        try:
            answer(listening, binding, running.address, running.key, ready)
        finally:
            running.close()


def _check_engine(engine: str, model: str, port: int) -> None:
    """Raise for an engine that is not llama.cpp: UnknownName, or how to have and start it."""
    if engine not in ENGINES:
        raise UnknownName("engine", engine, ENGINES)
    if engine in OTHERS:
        from importlib.util import find_spec

        package, line = OTHERS[engine]
        start = line.format(model=model[:60], port=port)
        install = "" if find_spec(engine) else f"pip install {package}, then "
        raise InputError(f"{engine} serves a Hugging Face folder by itself: {install}{start}")
