"""A run, its slides and its maps in the browser: a server of one machine, one page, nothing from elsewhere."""
