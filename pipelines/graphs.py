"""The graphs by name."""

import tempfile
from collections.abc import Callable
from pathlib import Path

from kfp import compiler
from kfp.dsl.base_component import BaseComponent

from glt.outputs import FileKind
from pipelines.ablation import ablation_pipeline
from pipelines.collection import collection_pipeline
from pipelines.retraining import retraining_pipeline
from pipelines.training import training_pipeline

GRAPHS: dict[str, Callable[[str], BaseComponent]] = {
    "training": training_pipeline,
    "retraining": retraining_pipeline,
    "collection": collection_pipeline,
    "ablation": ablation_pipeline,
}


def write_graphs(profile: str, folder: Path) -> list[Path]:
    """Compile every graph for an accelerator profile, as KFP's intermediate representation in YAML.

    Args:
        profile: name of the profile.
        folder: of the files, one per graph.

    Raises:
        GltError: a file of that name is not that compiled graph; then none is written.
    """
    files = {name: folder / f"{name}.yaml" for name in GRAPHS}
    for name, file in files.items():
        _kind(name).check(file)
    with tempfile.TemporaryDirectory() as temporary:
        for name, graph in GRAPHS.items():
            compiled = Path(temporary) / f"{name}.yaml"
            compiler.Compiler().compile(graph(profile), str(compiled))
            _kind(name).write(files[name], compiled.read_bytes())
    return list(files.values())


def _kind(name: str) -> FileKind:
    start = f"# PIPELINE DEFINITION\n# Name: glt-{name}\n".encode()  # as KFP's compiler begins
    return FileKind(f"compiled graph {name}", lambda content: content.startswith(start))
