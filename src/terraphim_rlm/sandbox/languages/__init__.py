"""What runs code of each language in a machine, and what is known of each."""
