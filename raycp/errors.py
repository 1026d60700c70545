"""The errors a user may meet. Each message names the thing, its value, what is allowed, and what to do.

Only the command line catches these; every subclass carries the exit status it ends the process with.
Our own mistakes are `assert`s and keep their traceback.
"""


class RaycpError(Exception):
    """Base of all errors that are meant to be read by a user."""

    exit_status = 1


class ConfigError(RaycpError):
    """A configuration file or override that cannot be used."""

    exit_status = 2


class DataError(RaycpError):
    """A data set that is missing, damaged, or not what certification needs."""


class ModelError(RaycpError):
    """Weights or a model directory that are missing, damaged, or of another architecture."""


class MissingFilesError(RaycpError):
    """Files or folders that a configuration names and that are not there."""


class FetchError(RaycpError):
    """A published file that cannot be fetched, or did not arrive as it was published."""


class UnsafeFileError(RaycpError):
    """A file that would run code if it were loaded in the ordinary way."""


class NumericsError(RaycpError):
    """The base classifier is not one function of its input under the chosen numerics."""


class LedgerError(RaycpError):
    """A ledger file that is damaged or contradicts another one."""


class StorageError(RaycpError):
    """A run directory that cannot be read or written."""


class RunMismatchError(RaycpError):
    """A run directory that belongs to another configuration, or is in use."""


class ClusterError(RaycpError):
    """A cluster that cannot be reached or lacks what was asked for."""


class WorkFailedError(RaycpError):
    """Work that failed on several replicas, or replicas that keep failing."""


class TrainingError(RaycpError):
    """A training run that cannot go on."""
