"""What one start of the learner needs before it serves: options, the run's directory, θ₀ and local actors.

In reading order: options, requirements, toml, run_directory, scratch, initial, relay, local_actors.
"""
