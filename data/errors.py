"""The error that a user can mend."""


class UserError(ValueError):
    """A wrong input: one line that says what, where, which value, and what is allowed.

    Entry scripts print it to stderr as `error: ...` and exit with code 2, without a traceback.
    """
