"""The keeper: one small process per owning process that starts, watches and ends all its sandboxes.

`client` is the owner's side. `start` is the process's script; it, `process`, `spawn`, `groups` and `orphans`
run in the keeper, single-threaded, and import only the standard library.
"""
