"""Sandboxes in containers of a Docker engine, with `runc` or with gVisor's `runsc`: see `docs/docker.md`."""
