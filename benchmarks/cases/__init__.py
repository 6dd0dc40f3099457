"""One module a case: its parts, what a part measures, and the rows of the table that follow from them."""
