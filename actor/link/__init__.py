"""The actor's side of a session: weights held, heartbeats, backoff. Pure.

In reading order: backoff, heartbeat, weights, in_flight, drain.
"""
