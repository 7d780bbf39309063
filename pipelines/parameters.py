"""Types of the graphs' parameters.

A graph's function is annotated with the types of the values (`str`, `int`, `Records`), and KFP calls it, to compile it,
with a channel for each of them.
"""

from typing import TYPE_CHECKING, Any, TypeAlias

from kfp.dsl.pipeline_channel import PipelineChannel

if TYPE_CHECKING:
    Records: TypeAlias = list[dict[str, Any]]
else:
    Records = (
        list  # of `list[dict[str, X]]` KFP expects that every value of a record is an X: no records of mixed types
    )

Text: TypeAlias = str | PipelineChannel
Count: TypeAlias = int | PipelineChannel
Items: TypeAlias = Records | PipelineChannel
