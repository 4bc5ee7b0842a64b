"""Reading off a thread's stack which collective it is in."""

from __future__ import annotations

import threading

import pytest

from crore.train.where import collective_of

TORCH = "/somewhere/torch"


def nested(calls, wait):
    """Return a function whose stack is `calls`, (file, name) from the outermost in."""
    inner = wait
    for file, name in reversed(calls):
        scope = {"inner": inner}
        exec(compile(f"def {name}():\n    inner()", file, "exec"), scope)  # noqa: S102
        inner = scope[name]
    return inner


def seen(calls, monkeypatch):
    """Return what is said of a thread with such a stack."""
    ready, done = threading.Event(), threading.Event()
    here = threading.get_ident()

    def wait():  # of a file that only passes calls on, as C++ leaves no frame at all
        ready.set()
        done.wait()

    monkeypatch.setattr("crore.train.where.PASSED", ("test_where.py", "threading.py", "/_ops.py"))
    thread = threading.Thread(target=nested(calls, wait), daemon=True)
    thread.start()
    ready.wait()
    assert thread.ident is not None
    said = collective_of(thread.ident, here)
    done.set()
    thread.join()
    return said


@pytest.mark.parametrize(
    ("calls", "said"),
    [
        ([("train.py", "step"), (f"{TORCH}/distributed/c10d.py", "all_reduce")], "all_reduce"),
        (
            [(f"{TORCH}/distributed/x.py", "wait_tensor"), (f"{TORCH}/_ops.py", "call")],
            "wait_tensor",
        ),
        # a schedule of torch.distributed around the model's own arithmetic is no wait
        ([(f"{TORCH}/distributed/pipelining/s.py", "step"), ("model.py", "forward")], ""),
        ([("train.py", "step"), (f"{TORCH}/distributed/tensor/_dispatch.py", "dispatch")], ""),
        ([("train.py", "step")], ""),
    ],
)
def test_the_innermost_call_says_whether_a_thread_waits(calls, said, monkeypatch):
    assert seen(calls, monkeypatch) == said


def test_a_backward_pass_waits_in_what_the_engines_threads_wait_in(monkeypatch):
    outer = threading.Event()
    ready = threading.Event()
    engine = [(f"{TORCH}/autograd/graph.py", "_engine_run_backward")]

    def run():
        ready.set()
        outer.wait()

    worker = nested([(f"{TORCH}/distributed/fsdp.py", "foreach_reduce")], run)
    thread = threading.Thread(target=worker, daemon=True)
    thread.start()
    ready.wait()
    assert seen(engine, monkeypatch) == "foreach_reduce"
    assert seen([("train.py", "forward")], monkeypatch) == ""
    outer.set()
    thread.join()


def test_a_thread_that_is_gone_is_nowhere():
    assert collective_of(-1, threading.get_ident()) == ""
