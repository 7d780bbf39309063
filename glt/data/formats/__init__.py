"""Readers, one module per format. A reader turns the bytes of a file into recordings, or raises a Rejection."""

from glt.data.formats import ntu, nw_ucla, pyskl, sbu, table
from glt.data.formats.format import Format

FORMATS: dict[str, Format] = {
    "ntu": ntu.FORMAT,
    "nw-ucla": nw_ucla.FORMAT,
    "sbu": sbu.FORMAT,
    "pyskl": pyskl.FORMAT,
    "table": table.FORMAT,
}

__all__ = ["FORMATS", "Format"]
