"""What Farflung is compared with, each in a process of its own that imports nothing of Farflung's.

In reading order: sb3, a library with its published settings; recipe, shipped, simulators, rollouts, loop_torch and
loop_jax, plain PPO in one process with the recipe that Farflung ships.
"""
