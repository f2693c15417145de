"""How root filesystems of sandboxes are made."""
