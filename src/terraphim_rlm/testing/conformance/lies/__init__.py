"""Planted faults: sandboxes that tell one lie each, by which the suite is tested itself."""
