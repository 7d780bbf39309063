"""One function a pipeline step: joins the science with the lifecycle. The same functions are the `glt` command.

A component imports the module it needs and no other: a pod that promotes does not wait for torch.
"""

from glt.errors import print_plainly

print_plainly()
