"""Pictures: maps of genes, overviews, distributions, and the plots of the preflight."""
