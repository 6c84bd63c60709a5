"""From rollouts to gradients: returns, losses, exploration. Knows arrays and policies; no simulator, no wire.

In reading order: returns, distributions, exploration, losses, normalization, rollout, methods, gradients,
local_steps, step_size.
"""
