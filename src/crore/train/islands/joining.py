"""Joining the islands while they train: the world that leads an island meets the other islands.

What it brings back it gives to the worlds of its own island, in one of their meetings: so an island
holds one outer state, whoever dies. The round of a fragment is a turn; turns are counted by all
islands alike, and an island that is behind takes up the others' state and keeps its own progress,
unless the others may have it already. All keep account of which samples are in the weights.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any, Final

import torch
import torch.distributed as dist
from torch import Tensor

from crore.train.checksum import whole_checksum
from crore.train.fault.judge import minority
from crore.train.fault.meeting import Meeting
from crore.train.fault.seat import Seat
from crore.train.islands.account import Account
from crore.train.islands.exchange import WAIT_S, Exchanged, Members, mean
from crore.train.islands.gate import Gate
from crore.train.islands.letter import letter_bytes, letter_of, read
from crore.train.islands.outer import HOST, OuterState
from crore.train.islands.settings import Outer
from crore.train.islands.turn import Result, Sent
from crore.train.local import local_part
from crore.train.peers import Left, Peers, State
from crore.train.place import Place

if TYPE_CHECKING:
    from crore.train.loop import Trainer

FAREWELL_S: Final = 30.0
"""An island that has ended waits so long for those that are late, to give them the last state."""
AGAIN_S: Final = 0.2
"""Between two of its looks for them."""
QUORUM_S: Final = 3600.0
"""Islands wait so long for each other at one try: a round takes as long as its steps."""
Tell = Callable[[str, str], None]
"""Hears the kind of an event and its line."""


class Islands:
    """The other islands, on one rank of a world: what the loop calls a fleet."""

    def __init__(
        self, seat: Seat, outer: Outer, named: Mapping[str, Tensor], *, peers: Peers, tell: Tell,
        asked: Callable[[], bool],
    ) -> None:  # fmt: skip
        self._seat, self._outer, self._named, self._peers = seat, outer, named, peers
        self._tell, self._asked = tell, asked
        self.state = OuterState(named, outer)
        self.account = Account(outer.fragments)
        self._gates = [Gate() for _ in range(outer.fragments)]
        self.turns = 0
        """Rounds of fragments that this island has been through, or has taken up."""
        self._origin = (0, 0)
        """Step and turns from which on turns come evenly."""
        self._ended = False
        self._place: dict[str, int] = {}
        self._meeting: Meeting | None = None
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="outer")
        self._sent: Future[Result] | None = None
        self._arrived: list[State] = []
        # Used beside training: a group of its own.
        self._group = dist.new_group(backend="gloo") if dist.is_initialized() else None

    def after(self, run: Trainer) -> None:
        """Count a step's tokens; send a fragment while training goes on, where that is asked."""
        self.state.count(run.share.whole * run.job.seq_len)
        self._place = asdict(run.place)
        due = self._outer.sends(run.place.step - self._origin[0]) is not None
        early = self._outer.overlap and due and not run.over
        if early and self._peers.leads and self._sent is None:
            self._send()

    def due(self, run: Trainer) -> bool:
        """Return whether a turn is to be taken after the steps that are done."""
        return self.turns < self._expected(run.place.step, over=run.over)

    def _expected(self, step: int, *, over: bool) -> int:
        """Return the turns that belong to so many steps; at the end every fragment has one more."""
        outer, (first, turns) = self._outer, self._origin
        steps = step - first
        if not over:
            return turns + max(steps - outer.overlap, 0) // outer.spacing
        whole = outer.fragments == 1 and steps % outer.spacing == 0
        return turns + steps // outer.spacing + (0 if whole else outer.fragments)

    @torch.no_grad()
    def join(self, run: Trainer) -> bool:
        """Take a turn, in a meeting of the island's worlds that has begun; False: once more."""
        facts, place = self.facts(), replace(run.place)
        size = letter_bytes(self._seat.islands, self._outer.fragments)
        letter = torch.zeros(size, dtype=torch.uint8)
        result, before = None, list[tuple[Tensor, Tensor]]()
        if self._peers.leads:
            self._place = asdict(run.place)
            result = self._wait()
            fragment = result.turn % self._outer.fragments
            changing = self._changing(fragment, whole=result.taken_up is not None)
            before = _kept(changing)
            letter = letter_of(self._installed(run, result), size)
        self._peers.publish([letter])
        told = read(letter)
        if told is not None:
            changing = self._changing(told["fragment"], whole=told["whole"])
            before = before or _kept(changing)
            self._peers.publish(changing)
        holds = self._peers.commit()  # a vote each meeting, whatever arrived
        if told is None or not holds:
            for tensor, kept in before:
                tensor.copy_(kept)
            self.load_facts(facts)
            run.place = place
            return False
        self._sent = None
        self._settle(run, told, result)
        return True

    def _wait(self) -> Result:
        if self._sent is None:
            self._send()
        assert self._sent is not None
        try:
            return self._sent.result()
        except BaseException:
            self._sent = None
            raise

    def _send(self) -> None:
        sent = self._outgoing(self.turns % self._outer.fragments)
        self._sent = self._thread.submit(self._exchange, sent)

    def _outgoing(self, fragment: int) -> Sent:
        place = Place(**self._place)
        return Sent(
            fragment=fragment, delta=self.state.delta(fragment, self._named),
            tokens=self.state.tokens[fragment], until=place.next_sample,
        )  # fmt: skip

    def _exchange(self, sent: Sent) -> Result:
        """Meet the other islands and exchange the fragment whose turn it is, until it holds."""
        meeting, astray = self._met(), False
        while True:
            self._arrived.clear()
            meeting.begin(0 if astray else self.turns + 1)  # at 0 it is behind everybody
            taken_up = next(iter(self._arrived), None)
            account = self._theirs(taken_up) if taken_up else self.account
            ended = taken_up[1]["ended"] if taken_up else self._ended
            brings = not ended and account.is_new(self._seat.island, self.account)
            state = taken_up[0] if taken_up else self.tensors()
            said = account.mark, sent.until if brings else 0
            told = self._told(meeting, state, said)
            astray = self._astray(meeting, [int(one) for one in told[:, 0].tolist()])
            if meeting.failed:
                meeting.commit()
                continue
            turn = int(taken_up[1]["turns"]) if taken_up else self.turns
            fragment = turn % self._outer.fragments
            if fragment != sent.fragment:  # the others are at another turn: as near as can be
                sent = self._outgoing(fragment)
            began_s = time.perf_counter()
            try:
                exchanged = self._mean(meeting, sent, sent.tokens if brings else 0)
            except RuntimeError as error:  # an island is gone
                meeting.fail(error)
            if meeting.commit():
                return Result(
                    turn=turn, exchanged=exchanged, me=meeting.place, meeting=meeting.number,
                    sent=sent,
                    sent_s=time.perf_counter() - began_s, taken_up=taken_up, brings=brings,
                    islands=[int(one) for one in told[:, 1].tolist()], until=int(told[:, 2].max()),
                    ended=ended,
                )  # fmt: skip

    def _mean(self, meeting: Meeting, sent: Sent, tokens: int) -> Exchanged:
        members = Members(
            group=meeting.group if meeting.size > 1 else None, me=meeting.place,
            count=meeting.size, weight=float(tokens), judge=self._gates[sent.fragment].judge,
            together=self._together,
        )  # fmt: skip
        return mean(members, sent.delta, self._outer.bits)

    def _theirs(self, state: State) -> Account:
        found = Account(self._outer.fragments)
        found.load_facts(state[1]["account"])
        return found

    def _told(
        self, meeting: Meeting, state: Mapping[str, Tensor], said: tuple[int, int]
    ) -> Tensor:  # fmt: skip
        """Return what all members say before they exchange, float64 [M, 3].

        A checksum of the outer state and the mark of its account; the number of the island; and the
        samples handed out: `said` are the mark and these.
        """
        table = torch.zeros(meeting.size, 3, dtype=torch.float64)
        held = whole_checksum(state.values(), self._group) + said[0]
        table[meeting.place] = table.new_tensor([held, self._seat.island, said[1]])
        meeting.add(table, WAIT_S)
        return table

    def _astray(self, meeting: Meeting, held: Sequence[int]) -> bool:
        """Return whether this island's outer state is not the others', at the same turn.

        After an outage of all, islands go on from checkpoints of different turns, and those that
        are back first may take turns anew. The minority, or who differs from the first, takes up
        the others' state; whoever sees a difference has the meeting fail.
        """
        if meeting.failed or len(set(held)) == 1:
            return False
        meeting.fail(RuntimeError("the islands hold different weights at the same turn"))
        odd = minority(range(meeting.size), held)
        if len(odd) == meeting.size:  # a tie
            odd = tuple(place for place in odd if held[place] != held[0])
        return meeting.place in odd

    def _met(self) -> Meeting:
        """Return the meeting of islands; the world that leads its island joins it."""
        if self._meeting is None:
            name = f"island-{self._seat.island:05d}"
            self._meeting = Meeting(
                name, self._seat.fleet, quorum_s=QUORUM_S,
                tell=lambda line: self._tell("note", line), asked=self._asked,
            )  # fmt: skip
            self._meeting.attach(self._give, self._keep)
        return self._meeting

    def _together(self, products: Tensor) -> Tensor:
        if self._group is not None:
            dist.all_reduce(products, group=self._group)
        return products

    def _give(self) -> State:
        """Return the outer state, for an island that is behind."""
        tensors = {name: local_part(t) for name, t in self.tensors().items()}
        return tensors, {**self.facts(), "place": self._place, "ended": self._ended}

    def _keep(self, state: State) -> None:
        self._arrived.append(state)

    def _installed(self, run: Trainer, result: Result) -> dict[str, Any]:
        """Apply a turn's result to the outer state; return what the other worlds must know."""
        state, exchanged = self.state, result.exchanged
        ahead = run.place.next_sample - result.sent.until  # trained while it was sent
        if result.taken_up is not None:
            tensors, facts = result.taken_up
            state.rebase(self._named, tensors, keep=result.brings)
            own = state.tokens if result.brings else [0] * self._outer.fragments
            self.load_facts({**facts, "tokens": own})
            for key in ("step", "samples", "set_aside"):
                setattr(run.place, key, int(facts["place"][key]))
            until = max(result.until, self.account.until(result.sent.fragment))
            ahead = max(run.place.next_sample - until, 0)
        fragment, ends = result.sent.fragment, run.over
        share = self._book(run, result, ahead)
        if ends:
            state.settle(fragment, exchanged.mean)
        else:  # an island that is away moves nothing: each sample counts for as much as ever
            state.apply(fragment, exchanged.mean * share)
        if result.brings:
            state.uncount(fragment, result.sent.tokens)
        self._gates[fragment].keep(exchanged.verdict, exchanged.weights)
        self.turns = result.turn + 1
        if ends and not run.over:  # islands that were away have left some: turns begin anew
            self._origin = (run.place.step, self.turns)
        return {
            "facts": self.facts(), "fragment": fragment, "whole": result.taken_up is not None,
            "fenced": exchanged.verdict.reasons[result.me], "place": asdict(run.place),
            "ends": ends,
        }  # fmt: skip

    def _book(self, run: Trainer, result: Result, ahead: int) -> float:
        """Book which samples are in the weights now, and return their share of those handed out.

        The run's place becomes what all agree on.
        """
        exchanged, fragment = result.exchanged, result.sent.fragment
        given = list(zip(result.islands, exchanged.weights, exchanged.verdict.fenced, strict=True))
        tokens = sum(weight for _, weight, fenced in given if not fenced)
        share = self.account.book(fragment, result.until, round(tokens / run.job.seq_len))
        self.account.meet(result.islands, exchanged.weights, meeting=result.meeting)
        handed_out = self.account.until(fragment) + ahead
        run.place.set_aside = self.account.lost
        run.place.samples = handed_out - run.place.set_aside
        return share

    def _settle(self, run: Trainer, told: Mapping[str, Any], result: Result | None) -> None:
        """Go on from a turn that holds: mix in the global weights, and say what happened."""
        met = run.place.met
        self.load_facts(told["facts"])
        for key, value in told["place"].items():
            setattr(run.place, key, value)
        run.place.met = met
        fragment = int(told["fragment"])
        self.state.take(fragment, self._named, whole=bool(told["ends"] or told["fenced"]))
        if result is not None:
            self._report(run, result, str(told["fenced"]))

    def _report(self, run: Trainer, result: Result, fenced: str) -> None:
        """Say what a turn that holds came to."""
        exchanged = result.exchanged
        if fenced:
            self._tell("fenced", f"this island's outer gradient is left out: {fenced}")
        if result.taken_up is not None:
            what = "keeps what it trained" if result.brings else "the others have what it trained"
            if result.ended:
                what = "the run has ended without what it trained"
            self._tell(
                "joined",
                f"took up the islands' turn {result.turn:,}, step {run.place.step}; {what}",
            )
        if not any(exchanged.weights):
            return
        given = zip(result.islands, exchanged.weights, exchanged.verdict.fenced, strict=True)
        heard = ", ".join(str(island) for island, weight, out in given if weight and not out)
        self._tell(
            "outer step",
            f"turn {self.turns:,}, {self.account.mark:08x} after {self.account.before:08x}: "
            f"fragment {result.sent.fragment} of islands {heard or 'none'}; "
            f"{exchanged.bytes_sent:,} bytes sent and {exchanged.fact_bytes:,} of facts "
            f"in {result.sent_s:.2f} s; {run.place.set_aside:,} samples lost so far",
        )

    def _changing(self, fragment: int, *, whole: bool) -> list[Tensor]:
        """Return what a turn may change: a fragment's outer state, or all of it and the weights."""
        if not whole:
            return self.state.flats(fragment)
        flats = [flat for each in range(self._outer.fragments) for flat in self.state.flats(each)]
        return [*flats, *(local_part(p.detach()) for p in self._named.values())]

    def tensors(self) -> dict[str, Tensor]:
        """Return global weights and momentum by the parameters' names."""
        return self.state.tensors(self._named)

    def facts(self) -> dict[str, Any]:
        """Return counts and the gates' memory."""
        gates = [gate.facts() for gate in self._gates]
        return {
            **self.state.facts(), "turns": self.turns, "origin": list(self._origin),
            "gates": gates, "account": self.account.facts(),
        }  # fmt: skip

    def load_facts(self, facts: Mapping[str, Any]) -> None:
        """Take up what `facts` returned."""
        self.state.load_facts(facts)
        self.account.load_facts(facts["account"])
        self.turns = int(facts["turns"])
        first, turns = facts["origin"]
        self._origin = (int(first), int(turns))
        for gate, told in zip(self._gates, facts["gates"], strict=True):
            gate.load_facts(told)

    def see_off(self, run: Trainer) -> None:
        """Give islands that are late at the end the last state: they end alike."""
        self._place, self._ended = asdict(run.place), True
        host = threading.Thread(target=self._receive, daemon=True, name="farewell")
        host.start()
        host.join(FAREWELL_S)

    def _receive(self) -> None:
        while self.account.up_to_date() < self._seat.islands:
            time.sleep(AGAIN_S)
            try:
                result = self._exchange(self._outgoing(self.turns % self._outer.fragments))
            except Left:
                return
            self.turns = result.turn + 1
            weights = result.exchanged.weights
            self.account.meet(result.islands, weights, meeting=result.meeting)

    def close(self) -> None:
        """Leave the other islands."""
        self._thread.shutdown(wait=False, cancel_futures=True)
        if self._meeting is not None:
            self._meeting.close()


def _kept(tensors: Iterable[Tensor]) -> list[tuple[Tensor, Tensor]]:
    """Return each tensor with a copy of it in the host's memory."""
    return [(tensor, tensor.to(HOST, copy=True)) for tensor in tensors]
