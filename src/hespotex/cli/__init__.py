"""The command line: parse, one call, print where the result lies."""
