"""What one start of the learner needs before it serves: its experiment, directory, θ₀ and local actors.

In reading order: experiment_file, initial, transfer, options, requirements, toml, changes, run_directory, source,
scratch, relay, local_actors, watchers, guests, bootstrap, training.
"""
