"""An accelerator profile: what the pods of a graph's steps get."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import AfterValidator, BeforeValidator, Field

from glt.recipe import Section

QUEUE = "kueue.x-k8s.io/queue-name"  # label that Kueue reads
_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?")
_DOMAIN = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*")
_MEMORY = re.compile(r"([1-9][0-9]{0,8})(Ki|Mi|Gi|Ti|K|M|G|T)")
_BYTES = {f"{prefix}{i}": (1024 if i else 1000) ** n for n, prefix in enumerate("KMGT", 1) for i in ("", "i")}
_LEAST, _MOST = "256Mi", "64Ti"  # below, no step can start; above, no node has it
_TAKEN = ("pipeline/", "pipelines.kubeflow.org/", "workflows.argoproj.io/", "kueue.x-k8s.io/")


def _cores(value: Any) -> Any:
    text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
    if not isinstance(text, str) or not re.fullmatch(r"[1-9][0-9]{0,3}", text):
        raise ValueError("give a whole number of cores, 1 or more")
    return text


def _size(memory: str) -> int:
    """Bytes; 0 if it is no amount of memory."""
    found = _MEMORY.fullmatch(memory)
    return int(found[1]) * _BYTES[found[2]] if found else 0


def _memory(text: str) -> str:
    if not _size(_LEAST) <= _size(text) <= _size(_MOST):
        raise ValueError(f"give an amount of memory from {_LEAST} to {_MOST}, as 16Gi")
    return text


def _text(value: Any) -> Any:
    if not isinstance(value, str):
        raise ValueError("YAML takes it for something else than text; put it in quotes")
    return value


def _label(value: str) -> str:
    if value and (len(value) > 63 or not _NAME.fullmatch(value)):
        raise ValueError(
            "not a valid label value; take at most 63 letters, digits, hyphens, dots and underscores, with a letter or "
            "digit at each end"
        )
    return value


def _queue(name: str) -> str:
    return _label(_object(name))  # it names a LocalQueue, in a label


def _object(name: str) -> str:
    if name and (len(name) > 253 or not _DOMAIN.fullmatch(name)):
        raise ValueError("not a valid Kubernetes name; take lower-case letters, digits, hyphens and dots")
    return name


def _labels(labels: dict[str, str]) -> dict[str, str]:
    for key in labels:
        prefix, slash, name = key.rpartition("/")
        if (
            len(name) > 63
            or not _NAME.fullmatch(name)
            or (slash and (len(prefix) > 253 or not _DOMAIN.fullmatch(prefix)))
        ):
            raise ValueError(
                f"{key!r:.80} is not a valid label key; take at most 63 letters, digits, hyphens, dots and underscores "
                "after a domain and a slash if it has one, as example.org/cost-centre"
            )
        if key.startswith(_TAKEN):
            remedy = "set the field queue" if key == QUEUE else "take another key"
            raise ValueError(f"{key}: Kubeflow sets this label itself; {remedy}")
    return labels


def _different(names: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(names)) != len(names):
        raise ValueError("a name is given twice, remove one of the two")
    return names


Text = Annotated[str, BeforeValidator(_text)]
Label = Annotated[Text, AfterValidator(_label)]
ObjectName = Annotated[Text, AfterValidator(_object)]


class Size(NamedTuple):
    """CPU and memory of a pod: its request and its limit."""

    cpu: Annotated[str, BeforeValidator(_cores)]
    memory: Annotated[str, AfterValidator(_memory)]


class Profile(Section):
    """Resources and places of the steps."""

    accelerator: Literal["cpu", "gpu"] = Field(description="what pretrain and finetune compute on")
    light: Size = Field(Size("1", "4Gi"), description="of the other steps")
    heavy: Size = Field(Size("4", "16Gi"), description="of the computing steps")
    retries: int = Field(2, ge=0, le=10, description="of a step that fails")
    interruptions: int = Field(
        8,
        ge=0,
        le=100,
        description="retries of a training beyond that; it goes on at its last checkpoint",
    )
    nodes: int = Field(
        1,
        ge=1,
        le=1000,
        description="how many pretrain takes by default. With more than one its own pod only waits for theirs, and "
        "those ask for what the TrainingRuntime `glt` says",
    )
    on_cluster: bool = Field(
        True, description="whether pods get what only a cluster has (secrets, volumes, node selection)"
    )
    queue: Annotated[Text, AfterValidator(_queue)] = Field(
        "", description="Kueue's local queue that every pod is sent to"
    )
    labels: Annotated[dict[str, Label], AfterValidator(_labels)] = Field(
        {}, max_length=50, description="of every pod, as for accounting costs"
    )
    pull_secrets: Annotated[tuple[Annotated[ObjectName, Field(min_length=1)], ...], AfterValidator(_different)] = Field(
        (), max_length=10, description="Secrets that the image is pulled with"
    )
    service_account: ObjectName = Field("", description="of the runs; none: the server's default")

    @property
    def pod_labels(self) -> dict[str, str]:
        """All labels of a step's pod."""
        return {**self.labels, **({QUEUE: self.queue} if self.queue else {})}
