"""Links between learner and actors that are long, thin or lossy, made on one machine."""
