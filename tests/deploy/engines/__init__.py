"""Containers, pods, units and jobs with a real engine, systemd and Slurm; pytest runs them when it is given their files:
`make test-deploy`, `.ci/systemd`, `.ci/slurm`.
"""
