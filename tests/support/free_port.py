"""A port for processes to meet at."""

import random
import socket

# below those that systems hand out by themselves, so that nobody is given it until the first process listens
_PORTS = range(20000, 32000)


def free_port() -> int:
    """Of this machine; nobody listens there now."""
    drawn = random.SystemRandom()  # not the tests' seeded one, which beside this one draws the same
    while True:
        with socket.socket() as probe:
            try:
                probe.bind(('127.0.0.1', port := drawn.choice(_PORTS)))
            except OSError:
                continue
            return port
