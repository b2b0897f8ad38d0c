"""SCALE-Sim: how to run it, the store of its results, and the campaign that fills the store."""
