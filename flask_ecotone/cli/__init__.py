"""``flask ecotone``, and the console commands of the application."""

from . import cache as cache
from . import channels as channels
from . import database as database
from . import dead_letters as dead_letters
from . import deduplication as deduplication
from . import worker as worker
from .group import ecotone_cli as ecotone_cli
from .lazy import add_console_commands as add_console_commands
from .lazy import check_console_commands as check_console_commands
