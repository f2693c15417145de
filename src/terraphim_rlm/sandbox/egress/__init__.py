"""The one way out of a sandbox: what it may reach, what it reached, and what it was refused."""
