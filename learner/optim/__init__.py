"""How gradients change θ. Knows vectors, versions and optimizers; no session, no socket, no file.

In reading order: update, applied, undo, drift, delay_compensation, staleness, noise_scale, norms, aggregation,
optimizers, parameters.
"""
