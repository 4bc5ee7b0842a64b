"""`--fix` and the counts say what is wrong with a value and what would be right."""

from __future__ import annotations

import pytest

from crore.cli.arguments import file_name, optional_count, optional_word, parse_fix
from crore.errors import InputError, UnknownName
from crore.plan.pins import FIX_KEYS


def test_a_pinned_layout_is_read():
    text = "tp=8, pp=16,vpp=1,zero=1,recompute=full,schedule=1f1b,global_batch=2k,"
    assert parse_fix(text) == {
        "tp": 8,
        "pp": 16,
        "vpp": 1,
        "zero": 1,
        "recompute": "full",
        "schedule": "1f1b",
        "global_batch": 2000,
    }


@pytest.mark.parametrize("text", [None, "", " , "])
def test_nothing_pinned_is_an_empty_layout(text):
    assert parse_fix(text) == {}


@pytest.mark.parametrize("key", FIX_KEYS)
def test_every_key_takes_the_value_its_own_message_suggests(key):
    with pytest.raises(InputError, match=f"--fix {key} needs a value") as caught:
        parse_fix(key)
    suggestion = str(caught.value).rpartition(" ")[2]
    assert list(parse_fix(suggestion)) == [key]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("tpp=8", r"unknown key in --fix 'tpp'; did you mean tp"),
        ("dp=8", "dp_shard, dp_replicate"),
        ("=", r"unknown key in --fix '' \(one of: tp, pp, .*, precision\)"),
        ("tp=0", "--fix tp must be a whole number from 1"),
        ("tp=a", "--fix tp must be a positive whole number, not 'a'"),
        ("tp=", "needs a value"),
        ("tp=1,tp=2", "names tp twice: 1 and 2"),
        ("zero=9", "0, 1, 2 or 3"),
    ],
)
def test_a_bad_layout_is_refused(text, message):
    with pytest.raises(InputError, match=message):
        parse_fix(text)


def test_an_unknown_key_is_its_own_kind_of_error():
    with pytest.raises(UnknownName):
        parse_fix("x=1")


def test_a_flag_left_out_stays_out():
    assert optional_count(None, "--gpus") is None
    assert optional_count("16k", "--gpus") == 16_000


def test_case_and_spaces_do_no_harm():
    assert parse_fix(" TP = 2, Recompute=FULL ") == {"tp": 2, "recompute": "full"}
    assert optional_word(" BF16 ") == "bf16"
    assert optional_word(None) is None


def test_an_empty_file_name_is_said_to_be_empty():
    with pytest.raises(InputError, match="the file name is empty"):
        file_name(" ")
