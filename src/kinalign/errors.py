"""What goes wrong for a user, as types. Programming errors stay plain Python exceptions.

Every message names the value, the limit and the way out; the command line prints it as one line and exits with 2.
"""


class KinalignError(Exception):
    """Base of every error that a user can mend."""


class ConfigError(KinalignError):
    """A setting is unknown, out of range or contradicts another."""


class MotionError(KinalignError):
    """Joints that are no motion: wrong shape, not finite, too few frames, another skeleton."""


class FormatError(KinalignError):
    """A motion file that cannot be read or written: cut short, malformed, unknown suffix."""


class DataError(KinalignError):
    """A data set whose files are absent, incomplete or contradict one another."""


class CheckpointError(KinalignError):
    """Weights that do not fit: absent, truncated, of another shape or codebook."""


class PromptError(KinalignError):
    """A prompt that cannot be spoken to the model or read: empty, far too long, naming nothing that a body does."""


class ProgramError(KinalignError):
    """An event program that cannot be: an unknown action, 0 repetitions, a step without an event."""


class VerdictError(KinalignError):
    """A verdict that cannot be: a score outside of 1 to 5, an unknown sub-task, a file that holds none."""


class LabelError(KinalignError):
    """Labels of people that cannot be kept or read: a broken file, one that is in use, an answer to no question."""


class EndpointError(KinalignError):
    """A language model's server that gives no answer: unreachable, too slow, refusing, speaking another protocol."""


class BudgetError(KinalignError):
    """The next paid call could cost more than what is left to spend."""


class InvalidCodes(KinalignError):
    """The language model's answer is no motion. It is counted, never repaired."""


class EvaluationError(KinalignError):
    """Numbers that cannot be given: too few samples, shapes that do not match, NaN, captions without words."""


class PlanError(KinalignError):
    """A plan that cannot be: an empty scene, an unknown action, no time, an answer of a planner that is none."""


class PostureError(PlanError):
    """A segment that cannot follow what is before it: no motion of it begins where the body is."""
