"""From the type a value has to the type that is asked for."""

from .conversion import Conversion as Conversion
from .conversion import is_written as is_written
from .conversion import user_converter as user_converter
from .conversion import UserConverter as UserConverter
from .expressions import as_number as as_number
from .expressions import compile_expression as compile_expression
from .expressions import EVALUATION_ARGUMENTS as EVALUATION_ARGUMENTS
from .expressions import Expression as Expression
from .expressions import names_in as names_in
from .media_type import BYTES as BYTES
from .media_type import JSON as JSON
from .media_type import MediaType as MediaType
from .media_type import MediaTypeConverter as MediaTypeConverter
from .media_type import PYTHON as PYTHON
from .media_type import TEXT as TEXT
from .mismatches import mismatch as mismatch
