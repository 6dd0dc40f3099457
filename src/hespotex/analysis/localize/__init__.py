"""Where on slides a diagnosis is: slides as bags of spots, patients as units."""
