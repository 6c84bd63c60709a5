"""Showing and recording episodes: what is drawn, what an mp4 holds afterwards, what is said where nothing can be."""

from __future__ import annotations

import builtins
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium
import imageio_ffmpeg
import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete

from actor.evaluation import video
from actor.evaluation.checkpoints import read_manifest
from actor.evaluation.rendering import PolicyViewScene, RenderedScene, open_scene, picture_of
from actor.evaluation.video import Recorder, even
from actor.evaluation.watch import EpisodePlayer, ViewingOptions, WatchedEpisode, Watcher, watch
from actor.events import Event, Weights, WeightsWanted
from actor.handoff import Interrupted, WorkerChannel
from protocol.errors import UserError
from tests.actor.evaluation.rundirs import checkpoint, run_directory, settings_of
from tests.actor.test_handoff import welcome

NOTHING: frozenset[str] = frozenset()
DISPLAYS = ("DISPLAY", "WAYLAND_DISPLAY", "SDL_VIDEODRIVER", "MUJOCO_GL")


class Dot(gymnasium.Env[Any, Any]):
    """Five steps; draws a shade of grey for each."""

    metadata: dict[str, Any] = {"render_modes": ["human", "rgb_array"], "render_fps": 12}  # noqa: RUF012  (as Gymnasium has it)
    action_space = Discrete(2)
    observation_space: Any = Box(-1.0, 1.0, (2,), np.float32)

    def __init__(self, render_mode: str | None = None) -> None:
        self.render_mode, self.steps, self.drawn = render_mode, 0, 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self.steps = 0
        self.drawn += self.render_mode == "human"
        return self.observation_space.low.astype(self.observation_space.dtype), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        self.steps += 1
        self.drawn += self.render_mode == "human"
        seen = np.full(self.observation_space.shape, self.steps, self.observation_space.dtype)
        return seen, 2.0, self.steps == 5, False, {}

    def render(self) -> Any:
        return np.full((31, 45, 3), 40 * self.steps, np.uint8)


class Blind(Dot):
    """Draws nothing."""

    metadata: dict[str, Any] = {"render_modes": []}  # noqa: RUF012  (as Gymnasium has it)


class Deaf(Blind):
    """Has never heard of render modes."""

    def __init__(self) -> None:
        super().__init__()


class Broken(Dot):
    """Has lost its OpenGL."""

    def render(self) -> Any:
        raise OSError("no OpenGL\nhere")


class Images(Deaf):
    """Shows the policy a stack of four images, and draws nothing."""

    observation_space: Any = Box(0, 255, (4, 40, 50), np.uint8)


@pytest.fixture(autouse=True)
def environments(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Registered for a test; a machine without a display."""
    for name in DISPLAYS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    kinds: tuple[Any, ...] = (Dot, Blind, Deaf, Broken, Images)
    for kind in kinds:
        gymnasium.register(f"{kind.__name__}-v0", kind, disable_env_checker=True)
    yield
    for kind in kinds:
        del gymnasium.registry[f"{kind.__name__}-v0"]


def viewing(out: Path | None = None, **changes: Any) -> ViewingOptions:
    return ViewingOptions(
        **{
            "episodes": 1,
            "seed": 0,
            "max_steps": 100_000,
            "fps": None,
            "allowed_modules": NOTHING,
            "out": out,
            **changes,
        }
    )


def frames_of(path: Path) -> tuple[list[np.ndarray], str]:
    """The file decoded again, uint8 [H, W, 3] each, and what ffmpeg says of its video stream."""
    ffmpeg = [imageio_ffmpeg.get_ffmpeg_exe(), "-i", str(path), "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    decoded = subprocess.run(ffmpeg, capture_output=True, check=True, timeout=60, stdin=subprocess.DEVNULL)
    about = next(line for line in decoded.stderr.decode().splitlines() if "Video: " in line)
    width, height = map(int, re.search(r" ([1-9]\d*)x(\d+)", about).groups())  # type: ignore[union-attr]
    return list(np.frombuffer(decoded.stdout, np.uint8).reshape(-1, height, width, 3)), about


def run_of(folder: Path, env: str, **changes: object) -> Path:
    theta = run_directory(folder, env=env, **changes)
    checkpoint(folder / "checkpoints", 12, {"theta": theta})
    return folder


def test_an_mp4_holds_every_frame_at_an_even_size(tmp_path: Path) -> None:
    with Recorder(tmp_path / "a.mp4", 10.0) as recorder:
        for shade in (0, 80, 160, 240):
            recorder.add(np.full((31, 45, 3), shade, np.uint8))
    frames, about = frames_of(tmp_path / "a.mp4")
    assert [frame.shape for frame in frames] == [(32, 46, 3)] * 4
    assert [float(frame.mean()) for frame in frames] == pytest.approx([0, 80, 160, 240], abs=6)
    assert "h264" in about
    assert "10 fps" in about
    assert str(recorder).endswith("a.mp4  4 frames  46 x 32  10 a second")


def test_the_last_row_and_column_fill_up() -> None:
    frame = np.arange(3 * 2 * 3, dtype=np.uint8).reshape(3, 2, 3)
    filled = even(frame)
    assert filled.shape == (4, 2, 3)
    np.testing.assert_array_equal(filled[:3], frame)
    np.testing.assert_array_equal(filled[3], frame[2])
    assert even(filled) is not frame


@pytest.mark.parametrize(
    ("name", "words"), [("a.avi", "ends in .mp4"), ("absent/a.mp4", "cannot write .*: No such file")]
)
def test_a_file_that_cannot_be(tmp_path: Path, name: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        Recorder(tmp_path / name)


def test_a_recording_that_never_began_leaves_no_file(tmp_path: Path) -> None:
    with Recorder(tmp_path / "a.mp4"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    importing = builtins.__import__

    def absent(name: str, *arguments: Any) -> Any:
        if name.startswith("imageio"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return importing(name, *arguments)

    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(UserError, match=r'recording needs imageio.*pip install "farflung\[video\]"'):
        video.Recorder(tmp_path / "a.mp4")


def test_a_run_is_recorded(tmp_path: Path) -> None:
    run_of(tmp_path, "Dot-v0")
    told: list[WatchedEpisode] = []
    recorder = watch(tmp_path, viewing(tmp_path / "a.mp4", episodes=2), best=False, report=told.append)
    assert told == [WatchedEpisode(1, 10.0, 5, 12), WatchedEpisode(2, 10.0, 5, 12)]
    frames, about = frames_of(tmp_path / "a.mp4")
    assert recorder is not None
    assert len(frames) == recorder.frames == 2 * 6  # the first observation of each, and one after each action
    assert [round(float(frame.mean()) / 40) for frame in frames] == [0, 1, 2, 3, 4, 5] * 2
    assert "12 fps" in about


def test_an_episode_past_the_step_limit_is_cut(tmp_path: Path) -> None:
    run_of(tmp_path, "Dot-v0")
    told: list[WatchedEpisode] = []
    recorder = watch(tmp_path, viewing(tmp_path / "a.mp4", episodes=2, max_steps=3), best=False, report=told.append)
    assert told == [WatchedEpisode(1, 6.0, 3, 12, cut=True), WatchedEpisode(2, 6.0, 3, 12, cut=True)]
    assert str(told[0]).endswith("version 12  cut at the step limit")
    assert recorder is not None
    assert recorder.frames == 2 * 4
    watch(tmp_path, viewing(tmp_path / "b.mp4", max_steps=5), best=False, report=told.append)
    assert told[2] == WatchedEpisode(1, 10.0, 5, 12)  # it ends there by itself


def test_an_environment_of_gymnasium_is_recorded_with_a_memory_and_at_another_pace(tmp_path: Path) -> None:
    run_of(tmp_path, "CartPole-v1", memory="lstm", memory_size=4)
    told: list[WatchedEpisode] = []
    watch(tmp_path, viewing(tmp_path / "a.mp4", fps=25.0), best=False, report=told.append)
    frames, about = frames_of(tmp_path / "a.mp4")
    assert len(frames) == told[0].length + 1
    assert "25 fps" in about
    assert frames[0].shape == (400, 600, 3)


def test_a_window_draws_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    scene = open_scene(settings_of(env="Dot-v0"), NOTHING, "human", 30.0)
    assert isinstance(scene, RenderedScene)
    scene.reset(0)
    scene.step(np.zeros((1, 1), np.int64))
    bare = scene.env.unwrapped
    assert (bare.drawn, bare.metadata["render_fps"], Dot.metadata["render_fps"]) == (2, 30.0, 12)
    scene.close()


def test_a_window_needs_a_display(tmp_path: Path) -> None:
    run_of(tmp_path, "Dot-v0")
    with pytest.raises(UserError, match=r"no display .* --out FILE"):
        watch(tmp_path, viewing(), best=False, report=print)


@pytest.mark.parametrize(("env", "cause"), [("Blind-v0", "no render mode rgb_array"), ("Deaf-v0", "render_mode")])
def test_an_environment_that_draws_nothing(tmp_path: Path, env: str, cause: str) -> None:
    run_of(tmp_path, env)
    with pytest.raises(UserError, match=cause):
        watch(tmp_path, viewing(tmp_path / "a.mp4"), best=False, report=print)
    assert not (tmp_path / "a.mp4").exists()


def test_what_drawing_lacks_is_said(tmp_path: Path) -> None:
    run_of(tmp_path, "Broken-v0")
    with pytest.raises(UserError, match="cannot be rendered into images here: OSError: no OpenGL"):
        watch(tmp_path, viewing(tmp_path / "a.mp4"), best=False, report=print)


def test_images_that_nobody_draws_are_shown_as_the_policy_sees_them() -> None:
    scene = open_scene(settings_of(env="Images-v0"), NOTHING, "rgb_array", None)
    assert isinstance(scene, PolicyViewScene)
    scene.reset(0)
    for number in range(1, 6):
        _, reward, over = scene.step(np.zeros((1, 1), np.int64))
        frame = scene.frame()
        assert frame.shape == (360, 450, 3)
        assert (frame == number).all()
        assert (reward, over) == (2.0, number == 5)
    scene.close()


def test_images_that_nobody_draws_have_no_window(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    with pytest.raises(UserError, match="in a window here: nothing draws the episode that its policy plays; --out"):
        open_scene(settings_of(env="Images-v0"), NOTHING, "human", None)


def test_atari_is_shown_as_its_vector_environment_shows_it() -> None:
    """``ALE/Pong-v5`` by itself draws in colour, but it is another environment than the one that was trained on."""
    scene = open_scene(settings_of(env="ALE/Pong-v5"), NOTHING, "rgb_array", None)
    assert isinstance(scene, PolicyViewScene)
    first = scene.reset(0)
    assert (first.shape, scene.fps, scene.frame().shape) == ((1, 4, 84, 84), 15.0, (336, 336, 3))
    scene.close()


def test_the_newest_of_a_stack_is_the_picture_and_colours_stay_colours() -> None:
    stack = np.zeros((2, 200, 400), np.uint8)
    stack[1] = 9
    assert picture_of(stack).shape == (400, 800, 3)
    assert (picture_of(stack) == 9).all()
    colours = np.zeros((400, 400, 3), np.uint8)
    colours[..., 1] = 5
    np.testing.assert_array_equal(picture_of(colours), colours)


@pytest.mark.parametrize("staged", [False, True])
def test_what_is_shown_is_the_wrapped_environment_of_the_last_stage(tmp_path: Path, staged: bool) -> None:
    clip = {"wrapper": "gymnasium.wrappers:ClipReward", "options": {"min_reward": 0.0, "max_reward": 0.25}}
    stack = {"wrapper": "gymnasium.wrappers:FrameStackObservation", "options": {"stack_size": 3}}
    later: dict[str, Any] = {"curriculum": [{"env_steps": 1, "set": {"wrappers": [stack, clip]}}]} if staged else {}
    theta = run_directory(tmp_path, env="Dot-v0", wrappers=[stack] if staged else [stack, clip], **later)
    checkpoint(tmp_path / "checkpoints", 3, {"theta": theta})
    told: list[str] = []
    recorder = watch(tmp_path, viewing(tmp_path / "a.mp4"), False, lambda said: told.append(str(said)))
    assert told == ["episode 1  return 1.25  length 5  version 3"]
    assert recorder is not None
    assert recorder.frames == 6


class Bench:
    """A watcher at a channel without a link behind it. Each want is answered by the next of ``given``, or the end."""

    def __init__(self, *given: Weights, out: Path, episodes_before_the_end: int = 100) -> None:
        self.told: list[WatchedEpisode] = []
        self.channel = WorkerChannel(lambda work: None)
        self.channel.configure(welcome())
        self.given = list(given)
        self.channel.adopt(self.given.pop(0))
        self.out, self.posted, self.end = out, 0, episodes_before_the_end

    def post(self, event: Event) -> None:
        assert event == WeightsWanted()
        self.posted += 1
        if self.posted == self.end:
            self.channel.close()
        elif self.given:
            self.channel.adopt(self.given.pop(0))

    def run(self, folder: Path, episodes: int) -> None:
        manifest = read_manifest(folder)
        view = viewing(self.out, episodes=episodes)
        with view.recorder() as recorder:
            show = EpisodePlayer(manifest.actor_table, manifest.layout, view, recorder)
            watcher = Watcher(show, self.post, self.told.append, episodes)
            try:
                watcher.run(self.channel, 1)
            finally:
                watcher.close()


def weights(folder: Path, version: int) -> Weights:
    return Weights(1, version, run_directory(folder, env="Dot-v0"), None)


def test_each_episode_of_a_live_run_has_the_newest_weights(tmp_path: Path) -> None:
    bench = Bench(weights(tmp_path, 3), weights(tmp_path, 8), out=tmp_path / "a.mp4")
    bench.run(tmp_path, 2)
    assert [(seen.number, seen.version) for seen in bench.told] == [(1, 3), (2, 8)]
    assert (bench.posted, bench.channel.stats.env_steps) == (2, 10)


def test_the_end_of_a_live_run_ends_the_recording_and_keeps_it(tmp_path: Path) -> None:
    bench = Bench(weights(tmp_path, 3), out=tmp_path / "a.mp4", episodes_before_the_end=1)
    with pytest.raises(Interrupted):
        bench.run(tmp_path, 3)
    assert [seen.number for seen in bench.told] == [1]
    frames, _ = frames_of(tmp_path / "a.mp4")
    assert len(frames) == 6
