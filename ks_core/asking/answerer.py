"""Who answers a server's visitors: one process with the models of one pair, for one question at a time, in turn.

A script asks and goes on; a thread has the process answer, and whoever looks (``find``) sees what there is by now, after a reload
of the page too. The process is ended by the system at its bounds of time and memory, and another one takes its place; one
that was asked nothing for some minutes is ended, with what it held. Nothing is written into the workspace.

    asked = respondent().ask(question, bounds, visitor)
    while not respondent().find(asked.question.key).over: ...
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from typing import Any

from ks_core.asking import answers, process
from ks_core.asking.answers import Asked
from ks_core.asking.bounds import Bounds
from ks_core.asking.question import Question
from ks_core.errors import JobError, KSLotteryError
from ks_core.jobs.reading import Exceeded, Failed, Limits, Reader

log = logging.getLogger(__name__)

#: Seconds of computing and on the clock: to load the models, and for a question.
LOADING, ANSWERING = (600, 300), (300, 300)
#: Seconds that a process is kept which nobody asks, and after which a question that nobody looks at is not answered any more.
KEPT, FORGOTTEN = 300.0, 60.0
#: Questions that may wait, and that are remembered with their answers.
MOST_WAITING, REMEMBERED = 12, 24
#: What is said of an error that nobody expected.
FAILED = "The program failed at this question. What happened is in the server's log."


#: ``present(visitor)``: whether somebody who waits is there to wait.
Present = Callable[[str], bool]


@dataclass
class _Place:
    """A question in the queue: what it needs, who waits for it and when each of them last looked, and the way to stop it."""

    asked: Asked
    bounds: Bounds
    waiting: dict[str, float]
    stopped: bool = False
    stop: list[Callable[[], None]] = field(default_factory=list)

    @property
    def looked(self) -> float:
        """When somebody last looked."""
        return max(self.waiting.values(), default=-math.inf)


class Respondent:
    """The queue, and the process. ``loading`` and ``answering`` are bounds of time, of computing and on the clock; ``kept`` is how
    long the process stays without a question. All in seconds. ``present`` knows which visitors are there at all."""

    def __init__(
        self,
        loading: tuple[float, float] = LOADING,
        answering: tuple[float, float] = ANSWERING,
        kept: float = KEPT,
        present: Present = lambda visitor: True,
    ) -> None:
        self.loading, self.answering, self.kept, self.present = loading, answering, kept, present
        self._places: OrderedDict[str, _Place] = OrderedDict()
        self._waiting: list[str] = []
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._reader: Reader | None = None
        self._pair: tuple[Any, ...] = ()

    @property
    def process(self) -> int | None:
        """The pid of the process that holds the models; ``None`` without one."""
        reader = self._reader
        return reader.pid if reader else None

    def ask(self, question: Question, bounds: Bounds, visitor: str) -> Asked:
        """Put a question into the queue, or find it there with what is known of its answers. It does not wait.

        A visitor waits for one question at a time: an earlier one is left for it, and given up where nobody else waits for it.
        Raises ``JobError`` where too many wait already.
        """
        with self._changed:
            for key in [key for key, place in self._places.items() if visitor in place.waiting]:
                if key != question.key:
                    self._leave(key, visitor)
            known = self._places.get(question.key)
            if known and known.asked.state not in (answers.FAILED, answers.STOPPED) and not known.stopped:
                known.waiting[visitor] = time.monotonic()
                return known.asked
            if len(self._waiting) >= MOST_WAITING:
                raise JobError(
                    f"{len(self._waiting)} questions wait already, and they are answered one after the other. Ask again in a moment."
                )
            place = _Place(Asked(question), bounds, {visitor: time.monotonic()})
            self._places.pop(question.key, None)
            self._places[question.key] = place
            self._waiting.append(question.key)
            while len(self._places) > REMEMBERED:
                over = next((key for key, p in self._places.items() if p.asked.over), None)
                if over is None:
                    break
                del self._places[over]
            if self._thread is None:
                self._thread = threading.Thread(target=self._serve, name="asking", daemon=True)
                self._thread.start()
            self._changed.notify_all()
            return place.asked

    def find(self, key: str, visitor: str = "") -> Asked | None:
        """A question with what is known of its answers by now; ``None`` for one that is not remembered.

        A visitor who looks waits for it from then on, whoever asked it: somebody may come by a link, or after a reload.
        """
        with self._changed:
            place = self._places.get(key)
            if place is None:
                return None
            if visitor:
                place.waiting[visitor] = time.monotonic()
            return place.asked

    def before(self, key: str) -> int:
        """How many questions are answered before this one."""
        with self._changed:
            return self._waiting.index(key) + 1 if key in self._waiting else 0

    def stop(self, key: str, visitor: str) -> bool:
        """A visitor does not wait any more. Whether the question was given up for it: it goes on while somebody else waits. What
        was written stays."""
        with self._changed:
            return key in self._places and self._leave(key, visitor)

    def close(self) -> None:
        """Give up every question, and end the process."""
        with self._changed:
            for key in list(self._places):
                if not self._places[key].asked.over:
                    self._give_up(key)
            thread, self.kept = self._thread, 0.0
            self._changed.notify_all()
        if thread is not None:
            thread.join()

    def _leave(self, key: str, visitor: str) -> bool:
        place = self._places[key]
        place.waiting.pop(visitor, None)
        now = time.monotonic()
        others = (who for who, looked in place.waiting.items() if now - looked <= FORGOTTEN and self.present(who))
        if place.asked.over or any(others):
            return False
        self._give_up(key)
        return True

    def _give_up(self, key: str) -> None:
        place = self._places[key]
        place.stopped = True
        if key in self._waiting:
            self._waiting.remove(key)
            place.asked.state = answers.STOPPED
        for stop in place.stop:
            stop()

    def _serve(self) -> None:
        """Answer what waits, until nothing has come for a while."""
        while True:
            with self._changed:
                if (
                    not self._changed.wait_for(lambda: bool(self._waiting) or self.kept == 0.0, self.kept)
                    or not self._waiting
                ):
                    self._end()
                    self._thread = None
                    return
                place = self._places[self._waiting.pop(0)]
            if time.monotonic() - place.looked > FORGOTTEN:
                place.asked.state = answers.STOPPED
                continue
            try:
                self._answer(place)
            except Exception:  # the thread has to go on for the others
                log.exception("a question could not be answered")
                self._failed(place.asked, FAILED)

    def _answer(self, place: _Place, again: bool = True) -> None:
        asked, began = place.asked, time.monotonic()
        try:
            asked.state = answers.LOADS
            reader = self._ready(place)
            began = time.monotonic()
            reading, writing = os.pipe()
            with open(reading, "rb", buffering=0) as said, open(writing, "wb", buffering=0) as saying:
                with self._changed:
                    if not place.stopped:
                        place.stop.append(lambda: _say_stop(saying.fileno()))
                try:
                    if not place.stopped:
                        reader.limits = replace(reader.limits, seconds=self.answering[0], patience=self.answering[1])
                        reader.ask(
                            process.answer, [said], {"question": asked.question.as_dict()}, self._hears(asked, began)
                        )
                finally:  # before the pipe is closed: its number may be another file's then
                    with self._changed:
                        place.stop.clear()
            asked.seconds = time.monotonic() - began
            asked.state = answers.STOPPED if place.stopped else answers.DONE
        except Failed:  # it is in the log by now
            self._failed(asked, FAILED)
        except Exceeded as reached:
            self._end()  # what took its place holds nothing
            if (
                not reached.bound and not asked.read and again
            ):  # it was ended before it began, such as by a system that lacks memory
                self._answer(place, again=False)
                return
            self._failed(asked, _sentence(reached))
        except KSLotteryError as error:
            self._failed(asked, str(error))

    def _hears(self, asked: Asked, began: float) -> Callable[[dict[str, Any]], None]:
        def hear(piece: dict[str, Any]) -> None:
            if "written" in piece and not asked.written:
                asked.first_token = time.monotonic() - began
            asked.hear(piece)

        return hear

    def _ready(self, place: _Place) -> Reader:
        """The process with this pair's models in it. It is started anew for another pair, so that it holds one."""
        question, bounds = place.asked.question, place.bounds
        pair = (question.base, question.tuned, question.content, bounds.precision, bounds.own, bounds.lacking)
        if self._reader is not None and (pair != self._pair or not self._reader.runs):
            self._end()
        if self._reader is None:
            limits = Limits(*self.loading, memory=bounds.memory, kept=1 << 62)
            self._reader = Reader(limits)
            try:
                self._reader.ask(process.prepare, [], {"base": pair[0], "tuned": pair[1], "bounds": asdict(bounds)})
            except BaseException:
                self._end()
                raise
            self._pair = pair
        return self._reader

    def _end(self) -> None:
        if self._reader is not None:
            self._reader.stop()
        self._reader, self._pair = None, ()

    def _failed(self, asked: Asked, error: str) -> None:
        asked.error, asked.state = error, answers.FAILED


def _say_stop(descriptor: int) -> None:
    with contextlib.suppress(OSError):
        os.write(descriptor, b".")


def _sentence(reached: Exceeded) -> str:
    if reached.bound:
        return (
            f"The answer takes more than {reached.bound}, which this server gives to no question. Ask something shorter, or ask on "
            "the command line (ask), which has no such bound."
        )
    return "The process that answers was ended: the machine has no more memory for it, or somebody ended it. Ask again."


@lru_cache(maxsize=1)
def respondent() -> Respondent:
    """The one of this server."""
    return Respondent()
