"""Silicon: areas of processing elements, and joules."""
