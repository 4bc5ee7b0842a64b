"""A check finds every problem of a mission at once, each with its line and a way out."""

from __future__ import annotations

import pytest

from crore.errors import InputError, UnknownName
from crore.plan import check_mission, check_record, render_check

SOUND = """\
model = "llama-3.1-8b"
precision = "bf16"

[data]
tokens = "1T"
seq_len = 8192
global_batch = 1024

[cluster]
gpu = "h100-sxm"
gpus = 64
"""


@pytest.fixture
def check(tmp_path):
    """Return a function that checks a mission's text."""

    def of(text):
        path = tmp_path / "mine.toml"
        path.write_text(text)
        return check_mission(str(path))

    return of


def found(made):
    """Return (line, key) of every finding."""
    return [(problem.line, problem.key) for problem in made.problems]


def test_a_sound_mission_says_what_was_checked(check):
    made = check(SOUND)
    assert made.exit_code == 0
    assert made.problems == ()
    text = render_check(made)
    assert text.startswith("ok  mine.toml: llama3-8b on 64 x h100-sxm, bf16, megatron-2025: ")
    assert "1T tokens are 119,209 steps of 1,024 sequences" in text  # 1e12 / (1024 x 8192)
    assert text.count("\n") == 0


def test_all_problems_are_found_at_once_in_the_order_of_the_file(check):
    made = check(
        'model = "llama-3.1-9b"\nprecison = "fp8"\nobjective = "fastst"\nstack = "megatron"\n'
        '[data]\ntokens = "lots"\nseq_len = 4096\nglobal_batch_tokens = 4097\n'
        '[cluster]\ngpu = "h1000-sxm"\nfabric = "rail-401g"\nwan = "x"\n'
        '[limits]\nmemory = "80 MW"\nmemory_margin = 2\nworld_gpus = "1M"\n[fix]\nzero = 4\n'
    )
    assert found(made) == [
        (1, "model"), (2, "precison"), (3, "objective"), (4, "stack"), (6, "data.tokens"),
        (8, "data.global_batch_tokens"), (10, "cluster.gpu"), (11, "cluster.fabric"),
        (12, "cluster.wan"), (14, "limits.memory"), (15, "limits.memory_margin"),
        (16, "limits.world_gpus"), (18, "fix.zero"),
    ]  # fmt: skip
    assert made.exit_code == 2
    lines = render_check(made).splitlines()
    assert len(lines) == 13
    assert "did you mean precision" in lines[1]
    assert "did you mean h100-sxm" in lines[6]
    assert max(map(len, lines)) <= 300


def test_fewer_tokens_than_a_batch_is_an_error(check):
    made = check(SOUND.replace('"1T"', '"8M"'))
    assert found(made) == [(5, "data.tokens")]
    assert "8M tokens are less than one batch of 1,024 sequences x 8,192" in made.problems[0].text


def test_missing_machines_are_named(check):
    made = check('model = "gpt2"\n')
    assert found(made) == [(None, "cluster")]
    assert made.exit_code == 2


@pytest.mark.parametrize(
    ("pins", "key", "words"),
    [
        ("tp = 3", "fix.tp", "tp does not divide the attention heads: tp=3, 32 heads, 32 layers"),
        ("pp = 33", "fix.pp", "more pipeline chunks than layers: pp=33"),
        ("cp = 3", "fix.cp", "cp does not cut the sequence"),
        ("ep = 2", "fix.ep", "ep or etp without experts"),
        ("tp = 8\npp = 16", "fix", "tp x pp x cp = 128 does not divide 64 GPUs"),
        ('schedule = "bogus"', "fix.schedule", "one of: gpipe, 1f1b"),
        ('offload = "disk"', "fix.offload", "one of: none, optimizer"),
    ],
)
def test_a_pin_that_cannot_be_kept_is_an_error(check, pins, key, words):
    made = check(f"{SOUND}[fix]\n{pins}\n")
    assert made.exit_code == 2
    assert [p.text for p in made.problems if p.key == key and words in p.text]


def test_a_model_that_does_not_fit_is_sound_but_infeasible(check):
    made = check(SOUND.replace("h100-sxm", "rtx-3090").replace("= 64", "= 1"))
    assert made.exit_code == 1
    assert "does not fit: llama3-8b on 1 x rtx-3090" in made.problems[0].text
    assert found(made) == [(9, "cluster")]


def test_a_batch_no_ranks_divide_is_infeasible_and_names_one_that_works(check):
    made = check(SOUND.replace("1024", "1021").replace("= 64", "= 16_384"))
    assert made.exit_code == 1
    assert found(made) == [(7, "data.global_batch")]
    assert "--global-batch 1024 does" in made.problems[0].text


def test_a_basis_of_the_dollars_is_owned_or_rented(check):
    assert check(f'{SOUND}[money]\nbasis = "rented"\n').exit_code == 0
    made = check(f'{SOUND}[money]\nbasis = "rent"\n')
    assert (made.exit_code, found(made)) == (2, [(13, "money.basis")])
    assert made.problems[0].text.endswith("did you mean rented? (one of: owned, rented)")


def test_a_limit_on_days_is_kept_or_infeasible(check):
    assert check(f"{SOUND}[limits]\ndays = 1000\n").exit_code == 0
    made = check(f"{SOUND}[limits]\ndays = 1\n")
    assert made.exit_code == 1
    assert found(made) == [(13, "limits.days")]


@pytest.mark.parametrize(
    ("before", "after", "finding"),
    [
        ("llama-3.1-8b", "gpt2-124m", (6, "data.seq_len")),  # 1,024 learned positions
        ("bf16", "nvfp4", (2, "precision")),  # an H100 has none
        ("gpus = 64", "gpus = 64\n[limits]\nworld_gpus = 32", (None, "stack")),  # has no quorum
        ("gpus = 64", 'gpus = 64\nname = "one-3090"', (9, "cluster")),
    ],
)
def test_parts_that_contradict_each_other_are_found(check, before, after, finding):
    made = check(SOUND.replace(before, after))
    assert made.exit_code == 2
    assert found(made) == [finding]


def test_the_record_says_the_same(check):
    assert check_record(check(SOUND))["ok"] is True
    record = check_record(check(SOUND.replace("bf16", "bf17")))
    [problem] = record["problems"]
    assert (record["ok"], problem["line"], problem["key"]) == (False, 2, "precision")
    assert problem["kind"] == "bad"


def test_the_users_catalogue_is_known(tmp_path):
    mine = tmp_path / "own.toml"
    mine.write_text(
        '[models.my-8b]\nbase = "llama3-8b"\nsource = "mine"\ndate = "2026"\n', encoding="utf-8"
    )
    path = tmp_path / "mission.toml"
    path.write_text(SOUND.replace("llama-3.1-8b", "my-8b"))
    assert check_mission(str(path)).exit_code == 2
    assert check_mission(str(path), mine).exit_code == 0


def test_what_is_no_mission_is_no_finding(tmp_path):
    with pytest.raises(UnknownName, match="did you mean ten_million"):
        check_mission("ten_milion")
    path = tmp_path / "broken.toml"
    path.write_text("model = \n")
    with pytest.raises(InputError, match="not valid TOML"):
        check_mission(str(path))
