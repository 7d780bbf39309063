"""Types of what glt uses of the Kubeflow Pipelines SDK, which ships none; tests/test_typings.py holds them to it."""
