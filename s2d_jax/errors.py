"""Exceptions whose message is for the user."""


class UserError(Exception):
  """A mistake that the user can fix: the message says what, where, what to do.

  Programs print the message as one line and exit with status 1; a library
  caller catches it like any other exception.
  """


class Preempted(Exception):
  """The machine is being preempted; the work so far is saved.

  Programs print the message and exit with status 143, as a process does that
  SIGTERM ends: run the same command again.
  """
