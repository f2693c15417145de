"""What is kept: the journal of events, the tables folded from it, and big bytes by their hash."""
