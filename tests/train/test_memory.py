"""A rank's tensors are counted once, on the first step of the process."""

from __future__ import annotations

import pytest
import torch

from crore.train.memory import TensorMemory, around_both


def test_the_first_step_is_counted_and_no_other():
    weight = torch.zeros(1000)
    memory = TensorMemory(lambda: [weight], "cpu", compiled=False)
    with memory.step():
        made = weight * 2
        del made
    assert memory.peak_bytes() == 2 * 4000
    with memory.step():
        more = torch.zeros(10_000) + 1
        del more
    assert memory.peak_bytes() == 2 * 4000
    assert memory.kind == "tensors"


def test_what_is_held_between_steps_counts():
    held = [torch.zeros(500), torch.zeros(250)]
    memory = TensorMemory(lambda: held, "cpu", compiled=False)
    with memory.step():
        pass
    assert memory.fullest_bytes() == 750 * 4


def test_compiled_blocks_are_measured_by_the_process():
    memory = TensorMemory(list, "cpu", compiled=True)
    with memory.step():
        pass
    assert memory.kind == "resident"
    assert memory.peak_bytes() > 1e7


@pytest.mark.parametrize("step", [0, 7])
def test_contexts_are_entered_one_inside_the_other(step):
    seen: list[tuple[str, int]] = []

    def named(name):
        def enter(number):
            seen.append((name, number))
            return torch.no_grad()

        return enter

    with around_both(named("outer"), named("inner"))(step):
        assert not torch.is_grad_enabled()
    assert seen == [("outer", step), ("inner", step)]
