"""The host's end of a guest: its processes, their streams, what they say and ask."""
