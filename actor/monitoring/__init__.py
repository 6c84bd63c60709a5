"""What is seen of an actor: log lines, metrics, liveness. Decides nothing.

In reading order: log, liveness, metrics, web.
"""
