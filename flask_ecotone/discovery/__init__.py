"""From packages to what is marked in them."""

from .catalogue import Catalogue as Catalogue
from .catalogue import collect as collect
from .catalogue import Gateway as Gateway
from .catalogue import Marked as Marked
from .manifest import Manifest as Manifest
from .packages import marked_in as marked_in
from .packages import marked_of as marked_of
from .packages import modules_of as modules_of
from .packages import scan_root as scan_root
