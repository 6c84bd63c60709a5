"""Containers, pods and units with a real engine; pytest runs them when it is given their files (`make test-deploy`)."""
