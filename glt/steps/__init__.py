"""One function per pipeline step: joins the science with the lifecycle. The `glt` command runs the same functions.

A component imports only the module that it needs: a pod that promotes does not wait for torch.
"""
