"""What both daemons ask of their operating system: streams, descriptors, signals, the service manager.

In reading order: stdio, outlet, descriptors, interrupts, notify, threads.
"""
