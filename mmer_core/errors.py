"""The errors that a user can mend. Whatever else is raised is a fault of this package and shows its traceback."""


class MmerError(ValueError):
    """Something given to this package is not what it should be: the message says what, and what was expected."""


class CorpusError(MmerError):
    """Something from outside is not what it should be: names the file, what was expected and what was found."""

    def __init__(self, file: object, expected: str, found: str):
        super().__init__(str(file), expected, found)  # three, so that it crosses process borders

    def __str__(self) -> str:
        return "{}: expected {}, found {}".format(*self.args)
