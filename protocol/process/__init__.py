"""What both daemons ask of their process: streams, descriptors, signals, the service manager, a user's own modules.

In reading order: stdio, outlet, descriptors, interrupts, notify, threads, modules.
"""
