"""A corridor: ten steps to the right reach the door and earn 1, each step costs 0.05. Knows Gymnasium alone."""

import gymnasium
import numpy


class Corridor(gymnasium.Env):
    observation_space = gymnasium.spaces.Box(0.0, 1.0, (1,), numpy.float32)
    action_space = gymnasium.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.place = 0
        return numpy.float32([0.0]), {}

    def step(self, action):
        self.place = max(0, self.place + (1 if action == 1 else -1))
        done = self.place == 10
        return numpy.float32([self.place / 10]), float(done) - 0.05, done, False, {}


gymnasium.register("Corridor-v0", entry_point=Corridor, max_episode_steps=100)
