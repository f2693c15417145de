"""Supervision as Erlang/OTP has it: who starts what in which order, and what happens when a part of it dies.

`spec` says what a child is, `children` are the kinds there are, `supervisor` keeps them alive, `watchdog` ends a process
whose event loop stands still.
"""
