"""The scientific runs behind results/, one JSON per measured run, and how to repeat them."""
