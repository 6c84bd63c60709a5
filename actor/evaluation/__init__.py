"""Playing without learning: scores, pictures and videos of a policy. Knows simulators and run directories.

In reading order: checkpoints, play, allowed, policy, portable, rendering, video, evaluate, watch.
"""
