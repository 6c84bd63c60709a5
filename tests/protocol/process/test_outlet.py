"""Output that is not read: nothing waits for it, what is lost is counted and told, and the end waits a moment only."""

from __future__ import annotations

import os
import threading
from functools import partial
from pathlib import Path

import pytest

from protocol.process.outlet import Outlet, unbuffered


class Reader:
    """Takes what is written once ``resume`` is called."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.written = threading.Semaphore(0)
        self._stopped, self._waiting = threading.Event(), threading.Event()

    def write(self, line: str) -> None:
        self._waiting.set()
        self._stopped.wait()
        self.lines.append(line)
        self.written.release()

    def resume(self) -> None:
        self._stopped.set()

    def stand(self, outlet: Outlet) -> None:
        """Until a first line hangs in ``write``."""
        outlet.submit(partial(self.write, "first"))
        self._waiting.wait()


def outlet_to(reader: Reader, limit: int) -> Outlet:
    return Outlet(lambda count: reader.write(f"lost {count}"), limit)


def test_what_does_not_fit_is_dropped_counted_and_told_where_it_is_missing() -> None:
    reader = Reader()
    outlet = outlet_to(reader, limit=2)
    reader.stand(outlet)
    words = ("second", "third", "fourth", "fifth")
    assert [outlet.submit(partial(reader.write, word)) for word in words] == [True, True, False, False]
    assert outlet.dropped == 2
    reader.resume()
    assert outlet.close(wait_s=20.0)
    assert reader.lines == ["first", "second", "third", "lost 2"]


def test_after_a_loss_lines_come_again() -> None:
    reader = Reader()
    outlet = outlet_to(reader, limit=1)
    reader.stand(outlet)
    for word in ("second", "third"):
        outlet.submit(partial(reader.write, word))
    reader.resume()
    for _ in range(2):
        reader.written.acquire()
    outlet.submit(partial(reader.write, "fourth"))
    assert outlet.close(wait_s=20.0)
    assert reader.lines == ["first", "second", "lost 1", "fourth"]


def test_the_end_does_not_wait_for_who_does_not_read() -> None:
    reader = Reader()
    outlet = outlet_to(reader, limit=2)
    reader.stand(outlet)
    assert not outlet.close(wait_s=0.0)
    reader.resume()


@pytest.mark.parametrize("error", [OSError(32, "Broken pipe"), ValueError("I/O operation on closed file")])
def test_a_reader_who_is_gone_takes_no_thread_along(error: Exception) -> None:
    heard: list[str] = []

    def fail() -> None:
        raise error

    outlet = Outlet(lambda _: None)
    outlet.submit(fail)
    outlet.submit(lambda: heard.append("next"))
    assert outlet.close(wait_s=20.0)
    assert heard == ["next"]


def test_a_descriptor_is_written_to_without_a_buffer(tmp_path: Path) -> None:
    with (tmp_path / "log").open("w", encoding="utf-8") as file:
        stream = unbuffered(file)
        assert stream.write("θ\n") == 2
        stream.flush()
        assert (tmp_path / "log").read_text(encoding="utf-8") == "θ\n"
        assert (stream.isatty(), stream.fileno()) == (False, file.fileno())


def test_a_pipe_that_was_made_not_to_block_still_gets_whole_lines() -> None:
    read, write = os.pipe()
    os.set_blocking(write, False)
    line = "x" * (1 << 18) + "\n"
    with os.fdopen(read, "rb") as reader, os.fdopen(write, "w") as writer:
        outlet = Outlet(lambda _: None)
        outlet.submit(partial(unbuffered(writer).write, line))
        assert reader.read(len(line)).decode() == line
        assert outlet.close(wait_s=20.0)
