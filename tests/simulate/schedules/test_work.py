"""What a chunk does is what the planner adds up, cut over the pipeline's ranks."""

from __future__ import annotations

import numpy as np
import pytest

from crore.cost import fitted_constants, operations
from crore.cost.step_time import exposed_messages, pricer_of, stages, tally
from crore.simulate.schedules.work import placed, work_of


def built(job):
    ops = operations(job)
    return work_of(job, ops, pricer_of(job, fitted_constants()))


@pytest.mark.parametrize("stack", ["torchtitan", "crore", "megatron-2025", "bigscience-2022"])
@pytest.mark.parametrize("schedule", ["1f1b", "zb-v"])
@pytest.mark.parametrize("recompute", [0, 3])
def test_the_slowest_rank_takes_the_planners_time(make_job, stack, schedule, recompute):
    """Messages between stages are in it where the sender waits for them, and else played."""
    job = make_job(stack=stack, schedule=schedule, recompute=recompute, zero=1)
    pricer = pricer_of(job, fitted_constants())
    total = tally(operations(job), pricer)
    exposed = exposed_messages(job, total, pricer.constants)
    at = stages(job, total, sum(exposed.values()), pricer.constants)
    rank_s = built(job).rank_s
    assert rank_s.max() == pytest.approx(float(at.slowest), rel=1e-9)
    assert rank_s.sum() == pytest.approx(float(at.whole), rel=1e-9)


def test_layers_are_cut_evenly_the_fuller_stages_first(make_job):
    job = make_job("llama-3.1-405b", pp=16, vpp=4, schedule="interleaved")
    stage, layers = placed(job, "interleaved")
    assert stage.tolist()[1] == [1, 17, 33, 49]
    by_stage = layers.ravel()[np.argsort(stage.ravel())]
    assert by_stage.tolist() == [2] * 62 + [1] * 2
    assert layers.sum() == 126


def test_embedding_and_head_take_a_layers_place_each(make_job):
    job = make_job("llama-3.1-405b", pp=16, end_slots=1)
    _, layers = placed(job, "1f1b")
    assert layers[:, 0].tolist() == [7] + [8] * 14 + [7]


def test_a_v_has_both_ends_on_its_first_rank(make_job):
    stage, _ = placed(make_job(pp=4, schedule="zb-v"), "zb-v")
    assert stage.tolist() == [[0, 7], [1, 6], [2, 5], [3, 4]]


def test_a_stage_and_its_copy_are_one_rank_of_dualpipe(make_job):
    stage, layers = placed(make_job(pp=4, schedule="dualpipe"), "dualpipe")
    assert stage.tolist() == [[0, 3], [1, 2], [2, 1], [3, 0]]
    assert layers.tolist() == [[20, 20]] * 4


def test_messages_are_listed_whole_and_by_what_shows(make_job):
    plain = built(make_job(stack="megatron-2021"))
    hidden = built(make_job(stack="megatron-2021", tp_overlap=1))
    assert set(plain.messages) == {"tp"}
    assert plain.messages["tp"].shown == 1
    assert hidden.messages["tp"].shown < 1
    assert hidden.messages["tp"].forward_s == plain.messages["tp"].forward_s
    assert hidden.rank_s.max() < plain.rank_s.max()


def test_recompute_sends_again_in_the_backward_pass(make_job):
    kept, redone = (built(make_job(recompute=mode)) for mode in (0, 3))
    assert redone.messages["tp"].forward_s == kept.messages["tp"].forward_s
    assert redone.messages["tp"].backward_s > kept.messages["tp"].backward_s
    assert redone.times.weight_s[1] == pytest.approx(kept.times.weight_s[1], rel=0.02)
    assert redone.times.input_s[1] > kept.times.input_s[1]


def test_a_sender_that_waits_is_as_much_longer_and_its_receiver_waits_no_more(make_job):
    """Of megatron-2021, whose code waits after every batch of sends; of torch's nothing waits."""
    blocked, apart = (built(make_job(stack=stack)) for stack in ("megatron-2021", "torchtitan"))
    assert blocked.send_waits
    assert not blocked.times.transfer_s.any()
    assert blocked.send_s > 0
    assert not apart.send_waits
    assert (apart.times.transfer_s == apart.send_s).all()
