"""One function a pipeline step: joins the science with the lifecycle. The same functions are the `glt` command."""

from glt.errors import print_plainly
from glt.steps.data import disentangle, ingest
from glt.steps.release import compare, finish, promote, register, report
from glt.steps.training import finetune, linear_probe, pretrain

__all__ = [
    "compare",
    "disentangle",
    "finetune",
    "finish",
    "ingest",
    "linear_probe",
    "pretrain",
    "promote",
    "register",
    "report",
]

print_plainly()
