"""Gates of learning: real policies, trained by the real command until they are solved (``make learn``)."""
