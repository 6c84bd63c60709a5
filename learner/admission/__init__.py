"""Who has a session, and which of their gradients reach the math thread. Knows peers and times; never θ.

In reading order: sessions, credit, checks, rate_limit, quarantine, control, queue, telemetry, shares, reports, notices.
"""
