"""Exceptions whose message is for the user."""


class UserError(Exception):
  """A mistake that the user can fix: the message says what, where, what to do.

  Programs print the message as one line and exit with `status`; a library
  caller catches it like any other exception.
  """

  status = 1


class KeptTooLittle(UserError):
  """Curation has left nothing, or too little to learn from."""


class Unanswered(UserError):
  """Other hosts did not answer in time; the same command may find them later.

  Programs exit with status 75, which asks launchers to try again.
  """

  status = 75  # EX_TEMPFAIL of sysexits.h


class Preempted(Exception):
  """The machine is being preempted; the work so far is saved.

  Programs print the message and exit with status 143, as a process does that
  SIGTERM ends: run the same command again.
  """
