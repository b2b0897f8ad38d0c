"""What the paper and others have published, and how far our numbers agree."""
