"""SCALE-Sim itself: runs of it, the store of what it said, and the campaign that fills the store."""
