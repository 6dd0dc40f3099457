"""Cross-validation over patients or sections, and the search inside training folds."""
