"""What learner and actor must agree on bit for bit, and nothing else. ``WIRE.md`` specifies it."""
