"""What a call is: the table, the sessions, the engine. Pure: no I/O, no clock, no async."""
