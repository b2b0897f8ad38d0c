"""A decoder block timed with PyTorch on the machine at hand, and what was recorded."""
