"""The memory of a tree of processes, read from a made-up /proc."""

from __future__ import annotations

from pathlib import Path

from tests.bench.memory import Memory


def process(proc: Path, pid: int, threads: dict[int, list[int]], peak_kb: int | None) -> None:
    """threads: the children that each thread started. peak_kb: None of one that has ended."""
    for thread, children in threads.items():
        (proc / str(pid) / "task" / str(thread)).mkdir(parents=True)
        (proc / str(pid) / "task" / str(thread) / "children").write_text(" ".join(map(str, children)))
    told = "Name:\tpython\n" + ("" if peak_kb is None else f"VmHWM:\t    {peak_kb} kB\nVmRSS:\t  1 kB\n")
    (proc / str(pid) / "status").write_text(told)


def test_peaks_of_all_descendants_are_summed_without_the_root(tmp_path: Path) -> None:
    process(tmp_path, 1, {1: [2], 7: [3]}, 999)
    process(tmp_path, 2, {2: [4]}, 10)
    process(tmp_path, 3, {3: []}, 20)
    process(tmp_path, 4, {4: [5]}, 30)  # 5 is gone
    memory = Memory(tmp_path)
    memory.look(1)
    assert memory.peak_bytes == 60 * 1024


def test_a_process_that_ended_counts_with_its_last_peak(tmp_path: Path) -> None:
    process(tmp_path, 1, {1: [2]}, 999)
    process(tmp_path, 2, {2: []}, 10)
    memory = Memory(tmp_path)
    memory.look(1)
    (tmp_path / "2" / "status").write_text("Name:\tpython\n")
    memory.look(1)
    assert memory.peak_bytes == 10 * 1024


def test_where_the_system_does_not_tell_there_is_no_figure(tmp_path: Path) -> None:
    memory = Memory(tmp_path)
    memory.look(1)
    assert memory.peak_bytes is None
