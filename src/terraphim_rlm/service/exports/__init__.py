"""A run of the journal in forms that other programs read: see `export`."""
