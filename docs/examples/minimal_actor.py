"""A whole actor of protocol version 1. Knows ZeroMQ, msgpack and numpy, and nothing of Farflung but its wire."""

import random

import msgpack
import numpy
import zmq


def minimal_actor(address, compute):
    """compute(theta, quantity) returns ("gradient" or "update" as float32 [P], environment steps that it took)."""
    control, instance = zmq.Context().socket(zmq.DEALER), random.getrandbits(63)
    control.connect(address)

    def say(*fields, buffers=()):
        control.send_multipart([b"FRF\x01" + msgpack.packb(fields), *buffers])

    say("hello", "minimal", instance, ["f32"])
    theta, version, steps, sequence, unanswered = None, 0, 0, 0, {}
    while True:
        header, *buffers = control.recv_multipart()
        kind, *fields = msgpack.unpackb(header[4:])
        if kind == "welcome" and fields[0] == instance:
            session, credit, quantity = fields[3], fields[6], fields[9]
            say("snapshot_request", session)
        elif kind == "snapshot":  # over the control link always a key frame
            version, theta = fields[1], numpy.frombuffer(buffers[0], "<f4")
        elif kind == "verdict":
            credit = fields[1]
            for number, *_ in fields[2]:
                unanswered.pop(number)
            say("snapshot_request", session)  # in place of following the weight stream
        elif kind == "heartbeat":
            say("heartbeat", session, steps, version)
        elif kind in ("goodbye", "refusal"):
            return fields
        while theta is not None and len(unanswered) < credit:
            gradient, taken = compute(theta, quantity)
            steps, sequence = steps + taken, sequence + 1
            unanswered[sequence] = gradient.tobytes()  # to be sent again, as it is, if no verdict comes
            about = ("gradient", session, sequence, version, "f32", len(theta), len(theta), [taken])
            say(*about, buffers=[unanswered[sequence]])
