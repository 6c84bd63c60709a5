"""Wrappers of one's own: a reward that is transformed, and a penalty on the way. Knows Gymnasium alone."""

import gymnasium


class ScaleReward(gymnasium.RewardWrapper):
    """gymnasium.wrappers:TransformReward wants a function, which no TOML file can hold; a module can."""

    def __init__(self, env, factor=1.0):
        super().__init__(env)
        self.factor = factor

    def reward(self, reward):
        return self.factor * reward


class Hurry(gymnasium.Wrapper):
    """Each step costs something more."""

    def __init__(self, env, cost):
        super().__init__(env)
        self.cost = cost

    def step(self, action):
        seen, reward, terminated, truncated, info = self.env.step(action)
        return seen, reward - self.cost, terminated, truncated, info
