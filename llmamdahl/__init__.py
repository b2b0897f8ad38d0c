"""Amdahl's Law for 1-bit LLMs: how much of a model its projections are, and what speeding them up can gain."""
