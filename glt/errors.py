"""The one exception a person is meant to read."""


class GltError(Exception):
    """Something the user can mend: the message names the file or field and the remedy.

    The command line and the pipeline components print it without a traceback and exit with 1.
    """
