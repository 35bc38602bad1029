"""The errors that a user can mend. Whatever else is raised is a fault of this package and shows its traceback."""


class MmerError(ValueError):
    """Something given to this package is not what it should be: the message says what, and what was expected."""


class CorpusError(MmerError):
    """Something from outside is not what it should be: names the file, what was expected and what was found."""

    def __init__(self, file: object, expected: str, found: str):
        super().__init__(f"{file}: expected {expected}, found {found}")

    def __reduce__(self):  # the three arguments became one message: let it cross process borders as it is
        return (_error_from_message, (str(self),))


def _error_from_message(message: str) -> CorpusError:
    error = CorpusError.__new__(CorpusError)
    error.args = (message,)
    return error
