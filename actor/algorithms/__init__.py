"""From rollouts to gradients: returns, losses, exploration. Knows arrays, policies and simulators; no wire.

In reading order: returns, distributions, exploration, losses, normalization, novelty, rollout, recent_rollouts,
methods, own, gradients, local_steps, step_size, portion, curriculum, simulators, report.
"""
