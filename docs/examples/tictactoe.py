"""Noughts and crosses against an opponent that plays at random: a win earns 1, a loss -1. Knows Gymnasium alone.

The board has nine numbers: 1 for our marks, -1 for the opponent's, 0 for empty. An action names a cell. A cell that is
taken loses at once, and a mask says which are not, so no policy has to learn that.
"""

import gymnasium
import numpy

LINES = ((0, 1, 2), (3, 4, 5), (6, 7, 8), (0, 3, 6), (1, 4, 7), (2, 5, 8), (0, 4, 8), (2, 4, 6))


class TicTacToe(gymnasium.Env):
    observation_space = gymnasium.spaces.Box(-1.0, 1.0, (9,), numpy.float32)
    action_space = gymnasium.spaces.Discrete(9)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.board = numpy.zeros(9, numpy.float32)
        if self.np_random.random() < 0.5:  # half of all games are begun by the opponent
            self.answer()
        return self.board.copy(), {"action_mask": self.board == 0.0}

    def step(self, action):
        if self.board[action]:
            return self.board.copy(), -1.0, True, False, {"action_mask": self.board == 0.0}
        self.board[action] = 1.0
        if not self.over():
            self.answer()
        return self.board.copy(), self.winner(), self.over(), False, {"action_mask": self.board == 0.0}

    def answer(self):
        self.board[self.np_random.choice(numpy.flatnonzero(self.board == 0.0))] = -1.0

    def winner(self):
        sums = [self.board[list(line)].sum() for line in LINES]
        return 1.0 if 3.0 in sums else -1.0 if -3.0 in sums else 0.0

    def over(self):
        return self.winner() != 0.0 or bool(self.board.all())


gymnasium.register("TicTacToe-v0", entry_point=TicTacToe)
