"""What of a gradient is sent, and what is kept for the next. Knows vectors and codecs; no socket.

In reading order: selection, preconditioner, compressor, running_mean, bandwidth, build.
"""
