"""Sandboxes made ahead: whoever wants one gets it at once, and a used one never comes back."""
