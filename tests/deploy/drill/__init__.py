"""``python -m tests.deploy.drill``: every alert provoked under a real Prometheus."""
