"""The weight stream: what is published of θ, when, and how many bytes of it. Knows records and rates; no socket.

In reading order: update_log, delta, writer, bandwidth, best, publisher.
"""
