"""Fifty clients at once for a minute: every answer is the right one, and none is lost."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import openai
import pytest
from tests.serve.served import HELLO, Served, served

CLIENTS = 50
WORDS = "abcdefghijklmnopqrstuvwxyz"


async def talk(url: str, number: int, end: float) -> list[str]:
    """Ask until the time is over, streamed every other time; return what came wrong."""
    wrong: list[str] = []
    async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="right", max_retries=0) as client:
        asked = 0
        while time.monotonic() < end or not asked:
            word = f"client {number} turn {asked} {WORDS[: 1 + (number + asked) % 26]}"
            got = await answer(client, word, stream=asked % 2 == 0)
            wrong += [] if got == word else [f"{word!r}: {got!r}"]
            asked += 1
    return [*wrong, f"asked {asked}"]


async def answer(client: openai.AsyncOpenAI, word: str, *, stream: bool) -> str:
    """Return the answer to a request whose only right answer is `word`."""
    request: dict[str, Any] = {
        "model": "tiny", "messages": HELLO, "max_tokens": 100,
        "extra_body": {"grammar": f'root ::= "{word}"'},
    }  # fmt: skip
    if not stream:
        made = await client.chat.completions.create(**request)
        return str(made.choices[0].message.content)
    parts = await client.chat.completions.create(**request, stream=True)
    return "".join([c.choices[0].delta.content or "" async for c in parts if c.choices])


async def all_clients(server: Served, seconds: float) -> list[list[str]]:
    end = time.monotonic() + seconds
    return await asyncio.gather(*(talk(server.url, n, end) for n in range(CLIENTS)))


def check(tiny, seconds: float) -> None:
    with served(str(tiny), "--api-key", "right", "--threads", "1") as server:
        said = asyncio.run(all_clients(server, seconds))
        assert server.answers()
    assert [line for lines in said for line in lines[:-1]] == []
    counts = [int(lines[-1].removeprefix("asked ")) for lines in said]
    print(f"{sum(counts):,} answers, {min(counts)} to {max(counts)} per client, in {seconds:g} s")
    assert min(counts) >= 1


def test_fifty_clients_at_once_each_get_their_own_answer(tiny):
    check(tiny, 0)


@pytest.mark.drill
def test_fifty_clients_for_a_minute(tiny):
    check(tiny, 60)
