"""How many files a process may open, some held in reserve, and threads that have a table of their own."""

from __future__ import annotations

import errno
import os
import resource
import sys
import threading

import pytest

from protocol.process.descriptors import MOST, Apart, Reserve, TooFewDescriptors, raise_limit


@pytest.mark.parametrize(
    ("soft", "hard", "after"),
    [(256, 4096, 4096), (256, resource.RLIM_INFINITY, MOST), (1024, 1 << 30, MOST), (MOST * 2, MOST * 4, MOST * 2)],
)
def test_the_soft_limit_goes_as_high_as_it_may(
    soft: int, hard: int, after: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    put: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: (soft, hard))
    monkeypatch.setattr(resource, "setrlimit", lambda _, limits: put.append(limits))
    assert raise_limit(64, "a learner") == after
    assert put == ([] if after == soft else [(after, hard)])


def test_a_limit_that_is_too_low_is_told_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (32, 32))
    with pytest.raises(TooFewDescriptors) as told:
        raise_limit(64, "an actor")
    assert str(told.value) == "ulimit -n is 32: an actor needs 64 open files and connections at least"
    assert told.value.exit_code == 2


def test_a_file_is_opened_with_what_was_held_until_nothing_is() -> None:
    reserve, tries = Reserve(0.0), 0
    assert reserve.fill(3)

    def full() -> int:
        nonlocal tries
        tries += 1
        if tries < 3:
            raise OSError(errno.EMFILE, "Too many open files")
        return tries

    assert reserve.lend(full) == 3
    assert reserve.fill(3)

    def never() -> int:
        raise OSError(errno.EMFILE, "Too many open files")

    with pytest.raises(OSError, match="Too many"):
        reserve.lend(never)
    with pytest.raises(FileNotFoundError):
        reserve.lend(lambda: os.open("/nowhere/at/all", os.O_RDONLY))


@pytest.mark.skipif(sys.platform != "linux", reason="unshare(2) is Linux's")
def test_what_is_opened_apart_is_none_of_the_process_s() -> None:
    apart = Apart()
    try:
        opened = apart.call(lambda: os.open(os.devnull, os.O_RDONLY))
        apart.call(lambda: os.fstat(opened))
        try:
            os.fstat(opened)
        except OSError:
            pass  # as it should be
        else:
            pytest.skip("this container lets no thread have a table of its own")
        apart.call(lambda: os.close(opened))
    finally:
        apart.close()


@pytest.mark.skipif(sys.platform != "linux", reason="unshare(2) is Linux's")
def test_a_thread_with_a_table_of_its_own_closes_nothing_of_the_reserve() -> None:
    apart, reserve, raised = Apart(), Reserve(0.0), []
    here = os.open(os.devnull, os.O_RDONLY)
    try:
        apart.call(lambda: os.fstat(here))
        pytest.skip("this container lets no thread have a table of its own")
    except OSError:
        assert reserve.fill(3)

    def never() -> int:
        raise OSError(errno.EMFILE, "Too many open files")

    def lends() -> None:
        with pytest.raises(OSError, match="Too many"):
            reserve.lend(never)
        raised.append(True)

    try:
        apart.start(thread := threading.Thread(target=lends))
        thread.join()
        apart.call(lends)
        assert raised == [True, True]
        assert len(reserve.held) == 3
    finally:
        apart.close()
        for descriptor in (here, *reserve.held):
            os.close(descriptor)
