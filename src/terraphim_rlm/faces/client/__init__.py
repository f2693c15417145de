"""How faces reach the daemon of sessions: found, started where it is not there, asked over its socket."""
