"""Models: what is fitted, the file that holds it, and its predictions."""
