"""Python packages for sandboxes: what may be asked for, the read-only layers they lie in, what a missing one tells."""
