"""The actor: simulators, networks, losses and what to compress. Never imports learner."""
