from . import (
    access as access,
    door as door,
    hosts as hosts,
    log as log,
    prepared as prepared,
    shelf as shelf,
    shipped as shipped,
    workspace as workspace,
)
from .cache import Cache as Cache
from .prepared import Prepared as Prepared
from .shipped import Provenance as Provenance
