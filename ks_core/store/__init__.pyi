from . import access as access, log as log, prepared as prepared, workspace as workspace
from .cache import Cache as Cache
from .prepared import Prepared as Prepared
