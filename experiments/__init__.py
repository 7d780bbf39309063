"""The scientific runs behind results/, one JSON per measured run. README.md lists them."""
