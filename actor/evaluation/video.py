"""Writes frames into an mp4. Knows imageio and ffmpeg, which the extra ``video`` brings; no simulators."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from protocol.errors import UserError


class Recorder:
    """One file, H.264. A context manager: leaving it, however that happens, ends the file so that it can be played.

    fps: frames a second; may be set until the first frame. Raises UserError where nothing can be recorded to this path.
    """

    def __init__(self, path: Path, fps: float | None = None) -> None:
        self.path, self.fps = path, fps
        self.frames, self.size = 0, (0, 0)  # so far; width and height in pixels
        self._open_writer = _ffmpeg()
        self._writer: Any = None
        if path.suffix.lower() != ".mp4":
            raise UserError(f"--out {path}: expected a file name that ends in .mp4")
        try:
            path.open("ab").close()  # ffmpeg would say so after the first episode, in many lines
        except OSError as error:
            raise UserError(f"cannot write {path}: {error.strerror or error}") from None

    def __str__(self) -> str:
        width, height = self.size
        return f"{self.path}  {self.frames} frames  {width} x {height}  {self.fps:g} a second"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._writer is not None:
            self._writer.close()
        elif self.path.stat().st_size == 0:
            self.path.unlink()

    def add(self, frame: NDArray[np.uint8]) -> None:
        """frame: uint8 [H, W, 3], the same size each time."""
        frame = even(frame)
        if self._writer is None:
            self.size = frame.shape[1], frame.shape[0]
            self._writer = self._open_writer(
                self.path,
                format="FFMPEG",
                mode="I",
                fps=self.fps,
                codec="libx264",
                pixelformat="yuv420p",
                macro_block_size=1,  # the frames are even already; its usual 16 would stretch them
                ffmpeg_log_level="error",
            )
        self._writer.append_data(frame)
        self.frames += 1


def even(frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The frame with its last row or column twice where their number is odd: colours are kept for pairs of pixels."""
    height, width = frame.shape[:2]
    return np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")


def _ffmpeg() -> Any:
    try:
        import imageio.v2
        import imageio_ffmpeg  # noqa: F401  (imageio asks for it at the first frame)
    except ImportError as error:
        raise UserError(f'recording needs {error.name}: pip install "farflung[video]"') from None
    return imageio.v2.get_writer
