"""A corridor that measures itself, and a callable that hears of its run. Knows Gymnasium and corridor.py."""

from pathlib import Path

import gymnasium
from corridor import Corridor


class Measured(Corridor):
    def step(self, action):
        seen, reward, done, cut, info = super().step(action)
        info["metrics"] = {"distance": 10 - self.place}
        if done:
            info["metrics"]["success"] = True
        return seen, reward, done, cut, info


gymnasium.register("Measured-v0", entry_point=Measured, max_episode_steps=100)


def note(event):
    if event["event"] in ("evaluated", "checkpoint_written", "finished"):
        with Path("notes.txt").open("a") as file:
            print(event["event"], "of version", event["version"], file=file)
