"""A decoder block timed with PyTorch on this machine, and the timings recorded so far."""
