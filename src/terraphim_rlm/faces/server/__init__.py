"""HTTP: one app over one socket. The daemon of sessions serves it; only `trlm serve` imports what is in here."""
