"""What follows from predictions: regions of spots, comparisons over patients, whole files read by gene."""
