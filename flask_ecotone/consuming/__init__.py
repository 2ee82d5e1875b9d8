"""Workers: what takes messages from channels and has them handled."""

from .failures import ErrorHandler as ErrorHandler
from .failures import FailedMessage as FailedMessage
from .limits import Limits as Limits
from .limits import Outcome as Outcome
from .stopping import Stopping as Stopping
from .worker import Worker as Worker
