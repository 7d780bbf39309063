"""The files of a ``classifier`` artifact, by name; apart from `glt.training.classifier`, which imports torch."""

FILES = frozenset(
    {"model.safetensors", "config.json", "metrics.json"}
    | {f"{name}.parquet" for name in ("predictions", "validation", "labelled")}
)
