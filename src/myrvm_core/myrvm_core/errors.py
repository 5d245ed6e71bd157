"""Errors that a person can act on. Each message is one clear line: what, where, the value, what is allowed."""


class RvmError(Exception):
    """Base of all errors that this project raises on purpose."""


class SettingsError(RvmError):
    """A parameter, a configuration file or the environment holds a value that is not allowed; one line a problem."""

    def __init__(self, *problems: str) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


class DeviceError(RvmError):
    """A camera, GPIO chip or other device is missing, lost or answers nonsense."""


class ModelError(RvmError):
    """A neural network cannot be loaded, or is not the one that was promised."""


class StorageError(RvmError):
    """The disk is full, or a database file cannot be used."""


class ServerError(RvmError):
    """The server was not reached, refused, or gave an answer that is not of the contract."""


class ImageError(RvmError):
    """A picture contradicts itself, or its encoding is not handled."""


class SignatureError(RvmError):
    """A document is not signed by who it must be signed by, or not for this."""
