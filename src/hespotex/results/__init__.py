"""The contents of a run folder: tables, records and metrics, written and read in one place."""
