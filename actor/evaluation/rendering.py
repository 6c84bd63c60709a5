"""One environment for people to look at: as it draws itself, or as its policy sees it. Knows simulators; no networks.

A scene steps one episode at a time. What is drawn is always the episode that the policy plays: an environment that
draws itself is used where its observations are the ones that the policy was trained on. Simulators that step in C++ may
have others and draw nothing (``AtariVectorEnv``): then the newest image of what the policy sees is the picture.
"""

from __future__ import annotations

import os
import sys
import warnings
from ctypes.util import find_library
from typing import Any, Literal, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from actor.config import ActorSettings
from actor.environments.conversion import ActionConverter, flatten_one, spaces_of
from actor.environments.masks import MaskBook, batch_of_one, masked
from actor.environments.registry import describe, make_one, make_vector_envs
from actor.environments.vector import VectorEnv
from actor.spaces import Spaces
from protocol.errors import UserError

Frame = NDArray[np.uint8]  # [H, W, 3]
Mode = Literal["human", "rgb_array"]  # Gymnasium's names: a window, or an array for each frame
USUAL_FPS = 30.0  # where an environment does not say
SEEN_FPS = 15.0  # Atari's sixty images a second, of which a policy sees every fourth
SEEN_PIXELS = 336  # at least, on the shorter side: a policy's image is too small for people


class Scene(Protocol):
    """One environment. fps: frames for each second of its own time."""

    spaces: Spaces
    fps: float

    @property
    def masks(self) -> NDArray[np.bool_] | None:
        """What the last observation allows, bool [1, L]; None where it does not say."""

    def reset(self, seed: int) -> NDArray[Any]:
        """Begins an episode. Returns the observation, [1, *shape]. Raises UserError where nothing can be drawn here."""

    def step(self, chosen: NDArray[Any]) -> tuple[NDArray[Any], float, bool]:
        """chosen: [1, width]. Returns the next observation, the raw reward and whether the episode is over."""

    def frame(self) -> Frame:
        """What there is to see now; not of a scene that has a window."""

    def close(self) -> None:
        """Ends the environment and its window."""


def open_scene(settings: ActorSettings, allowed_modules: frozenset[str], mode: Mode, fps: float | None) -> Scene:
    """The scene of these settings. fps: other than the environment's own. Raises UserError saying what is missing."""
    if mode == "human":
        check_display()
    else:
        _do_without_display()
    try:
        spaces = describe(settings, allowed_modules, pools=False)
    except UserError:
        raise
    except Exception as error:  # MuJoCo loads OpenGL when it is imported
        raise _cannot(settings.env, mode, error) from error
    drawn = _drawn(settings, allowed_modules, mode, fps)
    if isinstance(drawn, RenderedScene) and drawn.spaces == spaces:
        return drawn
    if isinstance(drawn, RenderedScene):
        drawn.close()
        drawn = _cannot(settings.env, mode, "its policy sees other observations than the environment that draws itself")
    if spaces.observation_type != "uint8":
        raise drawn
    if mode == "human":
        cause = (
            "nothing draws the episode that its policy plays; --out FILE.mp4 records the images that the policy sees"
        )
        raise _cannot(settings.env, mode, cause)
    return PolicyViewScene(settings, allowed_modules, fps)


def _drawn(
    settings: ActorSettings, allowed_modules: frozenset[str], mode: Mode, fps: float | None
) -> RenderedScene | UserError:
    try:
        return RenderedScene(settings, allowed_modules, mode, fps)
    except UserError as error:
        return error


def check_display() -> None:
    """Raises UserError where no window can be opened."""
    if _has_display() or os.environ.get("SDL_VIDEODRIVER"):
        return
    raise UserError("there is no display to open a window on (DISPLAY is not set); --out FILE.mp4 records instead")


def _has_display() -> bool:
    return sys.platform != "linux" or any(map(os.environ.get, ("DISPLAY", "WAYLAND_DISPLAY")))


def _do_without_display() -> None:
    """A recording opens no window, and what draws should not look for one. What a person has set stays."""
    if not _has_display():
        os.environ.setdefault("SDL_VIDEODRIVER", "dummy")  # pygame
        if find_library("EGL"):
            os.environ.setdefault("MUJOCO_GL", "egl")


def _cannot(env: str, mode: Mode, cause: object) -> UserError:
    said = cause if isinstance(cause, str) else f"{type(cause).__name__}: {cause}"
    return UserError(f"{env} cannot be rendered {'in a window' if mode == 'human' else 'into images'} here: {said}")


class RenderedScene:
    """Scene of one Gymnasium environment that renders itself. Raises UserError where it does not."""

    def __init__(self, settings: ActorSettings, allowed_modules: frozenset[str], mode: Mode, fps: float | None) -> None:
        self._name, self._mode = settings.env, mode
        self.env = self._make_env(settings, allowed_modules)
        try:
            if self.env.render_mode != mode or mode not in (self.env.metadata.get("render_modes") or ()):
                raise self._cannot(f"it has no render mode {mode}")
            self._pace(fps)
            self.env, masking = masked(settings.env, self.env, settings.action_mask)
            self._book = MaskBook(masking, 1)
            self.spaces = spaces_of(settings.env, self.env.observation_space, self.env.action_space)
        except BaseException:
            self.env.close()
            raise
        self._convert = ActionConverter(self.spaces.actions)
        self._proven = False  # whether anything was drawn yet

    def _make_env(self, settings: ActorSettings, allowed_modules: frozenset[str]) -> Any:
        options = {**settings.env_options, "render_mode": self._mode}
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # about render modes, which are looked at afterwards
                return make_one(settings.env, options, allowed_modules, settings.wrappers)
        except UserError:
            raise
        except Exception as error:  # whatever its constructor thinks of the render mode
            raise self._cannot(error) from error

    def _cannot(self, cause: object) -> UserError:
        return _cannot(self._name, self._mode, cause)

    def _pace(self, fps: float | None) -> None:
        """A window draws as fast as the environment's metadata say."""
        if fps is not None:
            bare = self.env.unwrapped
            bare.metadata = {**bare.metadata, "render_fps": fps}
        self.fps = float(fps or self.env.metadata.get("render_fps") or USUAL_FPS)

    def reset(self, seed: int) -> NDArray[Any]:
        """Scene.reset."""
        observed, info = self._tried(lambda: self.env.reset(seed=seed))
        self._book.begin(batch_of_one(info, self._book.actions))
        return self._flat(observed)

    def step(self, chosen: NDArray[Any]) -> tuple[NDArray[Any], float, bool]:
        """Scene.step."""
        action = self._convert.one(chosen)
        observed, reward, terminated, truncated, info = self._tried(lambda: self.env.step(action))
        over = bool(terminated or truncated)
        self._book.go_on(batch_of_one(info, self._book.actions), np.array([over]))
        return self._flat(observed), float(reward), over

    @property
    def masks(self) -> NDArray[np.bool_] | None:
        """Scene.masks."""
        return self._book.shown

    def frame(self) -> Frame:
        """Scene.frame."""
        picture = np.asarray(self._tried(self.env.render))
        if picture.ndim != 3 or picture.shape[2] != 3:
            raise self._cannot(f"a frame is {picture.dtype} {list(picture.shape)}, not an RGB image")
        return picture.astype(np.uint8, copy=False)

    def _tried(self, does: Any) -> Any:
        """Until something was drawn once, a failure is most likely one of drawing: no display, no OpenGL, no pygame."""
        if self._proven:
            return does()
        try:
            result = does()
        except Exception as error:
            raise self._cannot(error) from error
        self._proven = self._mode == "human" or does == self.env.render
        return result

    def _flat(self, observed: Any) -> NDArray[Any]:
        return flatten_one(self.env.observation_space, observed)[None]

    def close(self) -> None:
        """Scene.close."""
        self.env.close()


class PolicyViewScene:
    """Scene of simulators that draw nothing and show images to the policy: the newest of its images, enlarged."""

    def __init__(self, settings: ActorSettings, allowed_modules: frozenset[str], fps: float | None) -> None:
        one = msgspec.structs.replace(settings, envs=1, groups=1)
        self._envs: VectorEnv
        (self._envs,) = make_vector_envs(one, allowed_modules, pools=False)
        self.spaces, self.fps = self._envs.spaces, fps or SEEN_FPS
        self._seen: NDArray[Any] = np.zeros((1, *self.spaces.observation_shape), np.uint8)

    def reset(self, seed: int) -> NDArray[Any]:
        """Scene.reset."""
        self._seen = self._envs.reset(seed)
        return self._seen

    def step(self, chosen: NDArray[Any]) -> tuple[NDArray[Any], float, bool]:
        """Scene.step."""
        step = self._envs.step(chosen)
        self._seen = step.observations if step.final_observations is None else step.final_observations
        return self._seen, float(step.rewards[0]), bool(step.terminated[0] or step.truncated[0])

    @property
    def masks(self) -> NDArray[np.bool_] | None:
        """Scene.masks."""
        return self._envs.masks

    def frame(self) -> Frame:
        """Scene.frame."""
        return picture_of(self._seen[0])

    def close(self) -> None:
        """Scene.close."""
        self._envs.close()


def picture_of(image: NDArray[np.uint8]) -> Frame:
    """What a policy sees, for people. image: [H, W, C] or [C, H, W]; three numbers a pixel are colours."""
    if image.shape[2] > image.shape[0]:
        image = np.moveaxis(image, 0, 2)
    if image.shape[2] != 3:
        image = np.repeat(image[:, :, -1:], 3, 2)
    factor = -(-SEEN_PIXELS // min(image.shape[:2]))
    return np.repeat(np.repeat(image, factor, 0), factor, 1)
