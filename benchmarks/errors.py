"""The one error of the benchmark: a measurement that may not be believed."""


class BenchmarkError(Exception):
    """A server did not start, an answer was not the expected one, or a tool is missing; the message says which.

    It ends the run with exit code 2: a figure that was measured over wrong answers is worse than none.
    """
