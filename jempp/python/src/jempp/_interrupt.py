"""Long calls that Ctrl-C ends.

Python runs signal handlers on the main thread, between bytecodes, so a call into C holds them up until it returns. A long
call of the main thread is therefore made by another thread, while the main thread waits where a signal can reach it.
"""
from __future__ import annotations

import threading
from queue import SimpleQueue
from typing import Any, Callable, Optional, TypeVar, cast

from .errors import Cancelled

T = TypeVar("T")
Progress = Callable[[int, int], Any]

GRACE = 0.5
"""Seconds that an interrupted call may take to end; after that it ends in the background."""


class Task:
    """A call in progress, as the thread that makes it sees it."""

    def __init__(self, progress: Optional[Progress]):
        self._progress = progress
        self._cancelled = threading.Event()
        self._messages: Optional[SimpleQueue[tuple[str, Any]]] = None
        self._answers: SimpleQueue[bool] = SimpleQueue()
        self.raised: Optional[BaseException] = None
        """What the progress callback raised."""

    def report(self, done: int, total: int) -> bool:
        """Calls the progress callback, on the thread that waits for this call; False if the call is to end."""
        if self._cancelled.is_set():
            return False
        if self._progress is None:
            return True
        if self._messages is None:
            return self.ask(done, total)
        self._messages.put(("progress", (done, total)))
        return self._answers.get() and not self._cancelled.is_set()

    def ask(self, done: int, total: int) -> bool:
        """Calls the progress callback here. Only an answer of False cancels; None does not."""
        assert self._progress is not None
        try:
            answer = self._progress(done, total) is not False
        except BaseException as e:
            self.raised, answer = e, False
        if not answer:
            self._cancelled.set()
        return answer

    def check(self, done: int, total: int) -> None:
        """As `report`; raises if the call is to end."""
        if not self.report(done, total):
            raise Cancelled(f"cancelled by progress after {done} of {total}")


def run(work: Callable[[Task], T], progress: Optional[Progress] = None) -> T:
    """The result of `work`, which calls `report` or `check` of the task that it is given now and then.

    Ctrl-C raises KeyboardInterrupt, at the latest half a second later. If the work has not ended by then, the exception's
    attribute `thread` is the thread on which it ends.
    """
    task = Task(progress)
    if threading.current_thread() is not threading.main_thread():
        return _finish(task, lambda: work(task))
    messages: SimpleQueue[tuple[str, Any]] = SimpleQueue()
    task._messages = messages

    def body() -> None:
        try:
            messages.put(("value", work(task)))
        except BaseException as e:
            messages.put(("error", e))

    thread = threading.Thread(target=body, name="jempp-call")
    try:
        thread.start()
        while True:
            kind, value = messages.get()
            if kind == "progress":
                task._answers.put(task.ask(*value))
            elif kind == "value":
                return cast(T, value)
            else:
                return _finish(task, lambda: cast(T, _throw(value)))
    except BaseException as e:
        task._cancelled.set()
        task._answers.put(False)
        if thread.ident is not None:
            thread.join(GRACE)
        if thread.is_alive():
            e.thread = thread  # type: ignore[attr-defined]
        raise


def _throw(e: BaseException) -> Any:
    raise e


def _finish(task: Task, work: Callable[[], T]) -> T:
    try:
        return work()
    except Cancelled:
        if task.raised is not None:
            raise task.raised from None
        raise
