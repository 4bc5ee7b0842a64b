"""What a request may be: its key, its origin, its path, its body and the length of its answer."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crore.errors import InputError
from crore.serve.requests import (
    GENERATE,
    TOKEN_KEYS,
    Limits,
    Refused,
    check_key,
    check_origin,
    check_path,
    parse_body,
    within_tokens,
)


def status(check, *given) -> int:
    """Return the status a check refuses with, 0 where it does not."""
    try:
        check(*given)
    except Refused as error:
        return error.status
    return 0


@pytest.mark.parametrize(
    ("header", "key", "answer"),
    [("Bearer right", "right", 0), ("Bearer wrong", "right", 401), ("", "right", 401),
     ("Bearer right ", "right", 0), ("Bearer é", "right", 401), ("", "", 0)],
)  # fmt: skip
def test_a_key_is_asked_where_there_is_one(header, key, answer):
    assert status(check_key, {"authorization": header} if header else {}, key) == answer


@pytest.mark.parametrize(
    ("origin", "answer"),
    [(None, 0), ("http://127.0.0.1:8080", 0), ("http://evil.example", 403),
     ("http://127.0.0.1:80", 403), ("null", 403)],
)  # fmt: skip
def test_only_the_servers_own_page_may_ask(origin, answer):
    headers = {"host": "127.0.0.1:8080"} | ({"origin": origin} if origin else {})
    assert status(check_origin, headers) == answer


@pytest.mark.parametrize(
    ("method", "path", "answer"),
    [("GET", "/", 0), ("GET", "/v1/models", 0), ("POST", "/v1/chat/completions", 0),
     ("GET", "/v1/chat/completions", 405), ("POST", "/props", 404), ("POST", "/slots/0", 404),
     ("POST", "/models/load", 404), ("DELETE", "/", 405), ("OPTIONS", "/v1/models", 405)],
)  # fmt: skip
def test_nothing_but_answers_is_offered(method, path, answer):
    assert status(check_path, method, path) == answer


@given(st.binary(max_size=200))
def test_any_bytes_are_an_object_or_refused(body):
    if status(parse_body, body) == 0:
        assert isinstance(parse_body(body), dict)
    else:
        assert status(parse_body, body) == 400


def test_nesting_without_end_is_refused():
    assert status(parse_body, b'{"a":' * 200_000) == 400


number = st.one_of(st.integers(-5, 300), st.none(), st.booleans(), st.floats(), st.text(max_size=5))


@given(st.fixed_dictionaries({}, optional=dict.fromkeys((*TOKEN_KEYS, "seed"), number)))
def test_no_answer_is_longer_than_the_limit(record):
    named = [record[key] for key in TOKEN_KEYS if record.get(key) is not None]
    sound = all(isinstance(v, int) and not isinstance(v, bool) and v <= 200 for v in named)
    assert status(within_tokens, record, 200) == (0 if sound else 400)
    if sound:
        made = within_tokens(record, 200)
        assert made.get("seed") == record.get("seed")
        assert not made.keys() & (set(TOKEN_KEYS) - {"max_tokens"})
        assert made["max_tokens"] == min([200, *(v for v in named if v >= 0)])


def test_every_path_that_costs_tokens_is_a_post():
    assert {status(check_path, "POST", path) for path in GENERATE} == {0}


@pytest.mark.parametrize("wrong", ["body_bytes", "tokens", "requests"])
def test_limits_are_checked(wrong):
    with pytest.raises(InputError, match=f"{wrong} must be at least 1, not 0"):
        Limits(**{wrong: 0})
