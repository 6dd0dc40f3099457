"""Fitting: from arrays of training sections to a model, and the model file."""
