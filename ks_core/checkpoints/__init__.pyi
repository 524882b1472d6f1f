from . import demo as demo, demo_files as demo_files, whole as whole
from .checkpoint import Checkpoint as Checkpoint
from .matrices import Matrix as Matrix, take as take, to_floats as to_floats
from .opening import open_checkpoint as open_checkpoint
from .pairs import Pair as Pair, match as match
from .readers import READERS as READERS, Reader as Reader
from .vocabulary import Vocabulary as Vocabulary
