"""The one exception a user is meant to read."""


class UserError(Exception):
  """A mistake the user can fix: the message says what, where, and what to do.

  Programs print the message as one line and exit with status 1; a library
  caller catches it like any other exception.
  """


class Preempted(Exception):
  """The machine is being taken away; what is done so far is saved.

  Programs print the message and exit with status 143, as a process does that
  SIGTERM ends: whoever started it starts it again.
  """
