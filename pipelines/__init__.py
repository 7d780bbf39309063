"""The graphs, readable as prose, and the command that runs and compiles them (`python -m pipelines`)."""
