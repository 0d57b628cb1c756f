"""What ends a run with one clear line; bad input is `data.errors.UserError`."""


class TrainingError(RuntimeError):
    """The input was fine and training still cannot go on: a non-finite loss or gradient, or no checkpoint to end with.

    The entry script prints the message as one line and exits with code 1.
    """
