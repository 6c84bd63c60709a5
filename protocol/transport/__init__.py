"""Messages between machines: addresses, keys and ZeroMQ's sockets, or memory. Knows frames, not messages.

In reading order: address, keys, resolver, sockets, learner_sockets, actor_sockets, memory.
"""
