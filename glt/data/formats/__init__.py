"""Readers, one file each. A reader turns the bytes of one file into a Recording or raises a Rejection, nothing else."""

from glt.data.formats import ntu, nw_ucla, sbu
from glt.data.formats.format import Format

FORMATS: dict[str, Format] = {"ntu": ntu.FORMAT, "nw-ucla": nw_ucla.FORMAT, "sbu": sbu.FORMAT}

__all__ = ["FORMATS", "Format"]
