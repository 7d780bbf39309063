"""What is measured, and how to measure it again; results go to results/, one JSON a measurement."""
