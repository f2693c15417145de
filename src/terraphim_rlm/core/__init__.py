"""The kernel: errors, values, events, the ledger, the clock, ids and the process starter.

Imports nothing of the other rooms.
"""
