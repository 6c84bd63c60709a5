"""Ten lamps, some of which are lit: five moves light one more each, and every second pays 1. Knows Gymnasium alone.

To light a lamp that is lit already is an error. So each observation comes with a mask of those that are not.
"""

import gymnasium
import numpy


class Lamps(gymnasium.Env):
    observation_space = gymnasium.spaces.MultiBinary(10)
    action_space = gymnasium.spaces.Discrete(10)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.lit = (self.np_random.random(10) < 0.3).astype(numpy.int8)
        self.moves = 0
        return self.lit.copy(), {"action_mask": 1 - self.lit}

    def step(self, action):
        if self.lit[action]:
            raise ValueError(f"lamp {action} is on already")
        self.lit[action] = 1
        self.moves += 1
        done = self.moves == 5 or bool(self.lit.all())
        return self.lit.copy(), float(action % 2), done, False, {"action_mask": 1 - self.lit}


gymnasium.register("Lamps-v0", entry_point=Lamps)
