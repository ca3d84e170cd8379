"""What ends a command on purpose: a message for people instead of a traceback, and an exit code."""


class UserError(Exception):
    """Bad input: its message is shown without a traceback, and the exit code is 2."""


class Stopped(Exception):
    """Work that ended early and has left what is to be kept: a search may catch it, a command ends with `code`."""

    code = 1
