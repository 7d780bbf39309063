"""Imported by the server that forks workers for NTU's text files: its parser is compiled code, which loads slowly."""

from glt.data import worker_process
from glt.data.formats import ntu_text

ntu_text.parse(b"0\n")

__all__ = ["worker_process"]
