"""Tuning: it learns, it resumes to the last bit, it stops, and what it writes is what it had."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from tests.train.tune.tiny import conversations, write_model

from crore.errors import InputError, UnknownName
from crore.train.tune import Tuning, tune
from crore.train.tune.corpus import pairs_of
from crore.train.tune.losses import logits_of
from crore.train.tune.models import load
from crore.train.tune.packing import stack
from crore.train.tune.task import Answers, Preferences
from crore.train.tune.template import Template, tokenizer_of

pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")
"""peft asks transformers by a name that is going."""


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    torch.set_num_threads(1)
    return write_model(tmp_path_factory.mktemp("base"))


def sft(tuning):
    return lambda tokenizer: Answers(tokenizer, conversations(), tuning)


def settings(base, folder, **more):
    given = {"method": "full", "lr": 3e-3, "steps": 12, "rows": 4, "seq_len": 64,
             "evaluate_every": 4, "device": "cpu"}  # fmt: skip
    return Tuning(folder=folder, base=base, **{**given, **more})


def weights(folder):
    from safetensors.torch import load_file

    return load_file(folder / "model.safetensors")


@pytest.mark.parametrize("method", ["full", "lora", "qlora"])
def test_held_out_answers_are_learned(base, tmp_path, method):
    tuning = settings(base, tmp_path / "out", method=method, lr=1e-2, steps=24)
    outcome = tune(tuning, sft(tuning))
    assert outcome.reason == "finished"
    assert outcome.after.loss < 0.8 * outcome.before.loss
    held = Answers(tokenizer_of(base), conversations(), tuning)
    written = load(replace(tuning, base=tuning.folder, method="full")).eval()
    with torch.no_grad():
        # What adapters of 4-bit weights are merged into has more bits than they were trained on.
        near = 0.05 if method == "qlora" else 1e-4
        assert held.evaluate(written).loss == pytest.approx(outcome.after.loss, rel=near)


@pytest.mark.parametrize("method", ["full", "lora"])
def test_a_killed_run_goes_on_to_the_last_bit(base, tmp_path, method, monkeypatch):
    whole = settings(base, tmp_path / "whole", method=method)
    tune(whole, sft(whole))
    cut = replace(whole, folder=tmp_path / "cut")
    learn, taken = Answers.backward, []

    def dies(self, model, items):
        taken.append(items)
        if len(taken) == 7:
            raise MemoryError
        return learn(self, model, items)

    monkeypatch.setattr(Answers, "backward", dies)
    with pytest.raises(MemoryError):
        tune(cut, sft(cut))
    assert not (cut.folder / "model.safetensors").exists()
    outcome = tune(cut, sft(cut))
    assert outcome.steps == 12
    first, second = weights(whole.folder), weights(cut.folder)
    assert all(torch.equal(first[name], second[name]) for name in first)
    steps = [json.loads(line) for line in (cut.folder / "tune.jsonl").read_text().splitlines()]
    assert [s["step"] for s in steps if s["kind"] == "step"] == [*range(1, 13)]


def test_it_stops_where_held_out_answers_are_learned_no_more(base, tmp_path):
    """Few conversations at a high rate are learned by heart; the best weights are written."""
    tuning = settings(
        base, tmp_path / "out", lr=2e-2, steps=400, rows=1, evaluate_every=2, patience=2
    )
    outcome = tune(tuning, lambda tokenizer: Answers(tokenizer, conversations(40), tuning))
    assert outcome.reason == "stopped"
    assert outcome.steps == outcome.best_step + 4 < 400
    assert outcome.after.loss < outcome.before.loss


def test_the_rate_rises_and_falls_as_the_trainers_cosine(base, tmp_path):
    tuning = settings(base, tmp_path / "out", steps=24, evaluate_every=12)
    tune(tuning, sft(tuning))
    log = [json.loads(line) for line in (tuning.folder / "tune.jsonl").read_text().splitlines()]
    rates = [line["lr"] for line in log if line["kind"] == "step"]
    assert rates[0] == pytest.approx(3e-3 / 3)
    assert rates.index(max(rates)) == 2
    assert max(rates) == pytest.approx(3e-3)
    assert rates[2:] == sorted(rates[2:], reverse=True)
    assert 3e-4 < rates[-1] < 3.3e-4


@pytest.mark.parametrize(
    ("stage", "width", "known"),
    [("sft", 4096, 2e-5), ("sft", 128, 3e-3), ("dpo", 2560, 1e-6), ("dpo", 128, 1e-4)],
)
def test_the_usual_rate_of_all_weights_is_near_what_is_known_at_each_width(
    base, tmp_path, stage, width, known
):
    usual = settings(base, tmp_path, stage=stage, lr=None)
    assert known / 1.3 < usual.rate(width) < known * 1.3
    assert settings(base, tmp_path, stage=stage, lr=7e-4).rate(width) == 7e-4
    adapters = replace(usual, method="lora")
    assert adapters.rate(128) == adapters.rate(width)


def test_another_run_in_the_folder_is_refused(base, tmp_path):
    tuning = settings(base, tmp_path / "out", steps=1)
    tune(tuning, sft(tuning))
    with pytest.raises(InputError, match="holds another tuning run"):
        tune(replace(tuning, seed=1), sft(tuning))


def test_the_chosen_answers_come_to_be_liked(base, tmp_path):
    tuning = settings(base, tmp_path / "out", stage="dpo", method="lora", lr=3e-3, steps=30)
    pairs = pairs_of(conversations(), seed=0)
    outcome = tune(tuning, lambda tokenizer: Preferences(tokenizer, pairs, tuning))
    assert outcome.before.margin == pytest.approx(0.0, abs=1e-4)
    assert outcome.before.loss == pytest.approx(0.6931, abs=1e-4)
    assert outcome.after.margin is not None
    assert outcome.after.margin > 0.5
    assert outcome.after.loss < outcome.before.loss


def test_adapters_merged_are_adapters_unmerged(base, tmp_path):
    from peft import PeftModel

    tuning = settings(base, tmp_path / "out", method="lora", lr=1e-2)
    tune(tuning, sft(tuning))
    plain = load(replace(tuning, method="full"))
    apart = PeftModel.from_pretrained(plain, tuning.folder / "adapter").eval()
    merged = load(replace(tuning, base=tuning.folder, method="full")).eval()
    example = Template(tokenizer_of(base)).example(conversations(1)[0])
    rows = stack([[example]], len(example), pad=0)
    with torch.no_grad():
        torch.testing.assert_close(
            logits_of(apart, rows), logits_of(merged, rows), atol=1e-5, rtol=0
        )


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"lr": 0.0}, "--lr must be above 0"), ({"rows": -1}, "--rows must be above 0"),
        ({"patience": 0}, "--patience must be above 0"),
    ],
)  # fmt: skip
def test_numbers_that_no_run_can_have(base, tmp_path, more, said):
    with pytest.raises(InputError, match=said):
        settings(base, tmp_path, **more)


@pytest.mark.parametrize(("more", "near"), [({"stage": "sfd"}, "sft"), ({"method": "lor"}, "lora")])
def test_words_that_are_none(base, tmp_path, more, near):
    with pytest.raises(UnknownName, match=f"did you mean {near}"):
        settings(base, tmp_path, **more)


def test_conversations_too_long_for_a_row_are_counted(base, tmp_path):
    tuning = settings(base, tmp_path, seq_len=4)
    with pytest.raises(InputError, match="0 rows to learn and 0 to evaluate on are at most 4 tok"):
        Answers(tokenizer_of(base), conversations(), tuning)
