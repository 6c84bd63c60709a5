"""TensorBoard's event files while a run goes on. Knows files and a clock, and late, tensorboard; it needs no torch."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from learner.monitoring.sinks.charts import Points

SUFFIX = ".farflung-live"  # `learner export` replaces its own files, and not these
FLUSH_S = 2.0  # a point is on disk after so long; TensorBoard itself looks every five seconds at most


class TensorBoardSink:
    """One file in ``folder`` for each life of the run. where: the folder, for people."""

    def __init__(self, folder: Path) -> None:
        self.where = str(folder)
        self._folder = folder
        self._writer: Any = None
        self._flush_at = 0.0

    def start(self, run: str, config: Mapping[str, Any], env_steps: int) -> None:
        """Sink.start. What an earlier life charted beyond these steps is not shown any more: it was lost."""
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.compat.proto.tensor_pb2 import TensorProto
        from tensorboard.plugins.text.metadata import create_summary_metadata
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        self._writer = EventFileWriter(str(self._folder), filename_suffix=SUFFIX)
        now = time.time()
        self._writer.add_event(Event(wall_time=now, step=env_steps, session_log=SessionLog(status=SessionLog.START)))
        text = f"```\n{msgspec.json.format(msgspec.json.encode(config)).decode()}\n```"
        value = Summary.Value(tag="experiment", metadata=create_summary_metadata(run, ""))
        value.tensor.CopyFrom(TensorProto(dtype="DT_STRING", string_val=[text.encode()]))
        self._writer.add_event(Event(wall_time=now, step=env_steps, summary=Summary(value=[value])))
        self._writer.flush()

    def scalars(self, points: Points) -> None:
        """Sink.scalars."""
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary

        values = [Summary.Value(tag=tag, simple_value=value) for tag, value in points.values.items()]
        summary = Summary(value=values)
        self._writer.add_event(Event(wall_time=points.unix_s, step=points.env_steps, summary=summary))
        if (now := time.monotonic()) >= self._flush_at:
            self._flush_at = now + FLUSH_S
            self._writer.flush()

    def end(self, result: Mapping[str, Any]) -> None:
        """Sink.end."""
        self._writer.close()
