"""The exception for mistakes that the user can fix."""


class UserError(Exception):
  """Says in one line what is wrong, where, the value found, and the remedy.

  Commands print its message without a traceback and exit with code 1.
  """
