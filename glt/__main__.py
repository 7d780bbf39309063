"""`python -m glt` is the `glt` command."""

from glt.cli import main

main()
