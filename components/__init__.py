"""Kubeflow Pipelines components, one a file: unpack artifacts, call one function of glt.steps, pack artifacts."""

import os

IMAGE = os.environ.get("GLT_IMAGE", "glt:0.1.0")
