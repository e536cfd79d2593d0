"""Sans-I/O parsers: captured bytes in, one of four outcomes out. No I/O, no clock, no log, no state of a connection."""
