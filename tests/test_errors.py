"""A wrong name is met with the right one."""

from __future__ import annotations

import pytest

from crore.errors import MAX_MESSAGE_CHARS, Infeasible, InputError, UnknownName, nearest, shown

GPUS = ["h200-sxm", "h100-pcie", "h100-sxm", "a100-sxm-80gb", "rtx-3090"]


@pytest.mark.parametrize(
    ("typed", "first"),
    [("h100", "h100-sxm"), ("rtx3090", "rtx-3090"), ("H100-SMX", "h100-sxm"), ("a100", GPUS[3])],
)
def test_the_nearest_name_comes_first(typed, first):
    assert nearest(typed, GPUS)[0] == first


def test_nothing_near_suggests_nothing():
    assert nearest("", GPUS) == []
    assert nearest("zzz", GPUS) == []


def test_an_unknown_name_says_where_all_are_and_keeps_its_parts():
    error = UnknownName("GPU", "h1o0", GPUS, "crore catalog gpus")
    assert "did you mean h100-sxm" in str(error)
    assert str(error).endswith("(all: crore catalog gpus)")
    assert (error.kind, error.name, error.valid) == ("GPU", "h1o0", GPUS)


def test_an_unknown_word_lists_the_valid_ones_where_they_fit():
    error = UnknownName("offload in --fix", "foo", ["none", "optimizer", "activations"])
    assert str(error).endswith("'foo' (one of: none, optimizer, activations)")
    assert "one of" not in str(UnknownName("key", "foo", [f"key_number_{n}" for n in range(30)]))


def test_a_bad_value_is_echoed_in_60_characters():
    for value in ("x" * 5000, "\x00" * 59, ["y" * 99], 10**400, 1 << 50_000):
        assert len(shown(value)) <= 60
    assert shown("bf17") == "'bf17'"


def test_messages_stay_short_whatever_was_typed():
    error = UnknownName("GPU", "x" * 5000, ["y" * 5000], "crore catalog gpus")
    assert len(str(error)) <= MAX_MESSAGE_CHARS


def test_exit_codes_tell_bad_input_from_a_sound_request_without_answer():
    assert (InputError.exit_code, UnknownName.exit_code, Infeasible.exit_code) == (2, 2, 1)
