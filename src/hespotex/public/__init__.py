"""What others published: models by name, and data as a ready manifest."""
