"""The files of a ``classifier`` artifact, in a module that does not import torch."""

FILES = frozenset(
    {"model.safetensors", "config.json", "metrics.json"}
    | {f"{name}.parquet" for name in ("predictions", "validation", "labelled")}
)
