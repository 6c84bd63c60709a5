"""Containers, pods, units and jobs with a real engine, systemd or Slurm; pytest runs them when it is given their files.

`make test-deploy`, `.ci/systemd` and `.ci/slurm` do.
"""
