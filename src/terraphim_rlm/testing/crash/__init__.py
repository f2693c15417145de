"""Runs that are killed at named moments and taken up again: `python -m terraphim_rlm.testing.crash --rounds 200`."""
