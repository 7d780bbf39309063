"""The sample recordings: generated, the same bytes on any machine."""

from glt.data.sample.recordings import ARCHIVE, MD5, write_sample

__all__ = ["ARCHIVE", "MD5", "write_sample"]
