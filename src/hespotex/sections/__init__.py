"""Sections: a manifest's rows read into spots, counts, image and scale, and the folds over them."""
