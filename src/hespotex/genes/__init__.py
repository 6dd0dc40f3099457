"""Genes: their names, the panel of a model, and sets of genes."""
