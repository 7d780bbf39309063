"""The graphs by name."""

from collections.abc import Callable

from kfp.dsl.base_component import BaseComponent

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
