"""A corridor of ice: each step slides the other way with the chance ``slip``. Knows Gymnasium alone."""

import gymnasium
import numpy


class Icy(gymnasium.Env):
    observation_space = gymnasium.spaces.Box(0.0, 1.0, (1,), numpy.float32)
    action_space = gymnasium.spaces.Discrete(2)

    def __init__(self, slip=0.0):
        self.slip = slip

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.place = 0
        return numpy.float32([0.0]), {}

    def step(self, action):
        ahead = (action == 1) != (self.np_random.random() < self.slip)
        self.place = max(0, self.place + (1 if ahead else -1))
        done = self.place == 10
        return numpy.float32([self.place / 10]), float(done) - 0.05, done, False, {}


gymnasium.register("Icy-v0", entry_point=Icy, max_episode_steps=100)
