"""From packages to what is marked in them."""

from .catalogue import Catalogue as Catalogue
from .catalogue import collect as collect
from .catalogue import Gateway as Gateway
from .catalogue import Marked as Marked
from .packages import marked_in as marked_in
from .packages import scan_root as scan_root
