"""The learner: owns θ, applies gradients, publishes weights. Owns numbers, not networks. Never imports actor."""
