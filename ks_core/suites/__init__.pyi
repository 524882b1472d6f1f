from . import (
    audited as audited,
    beside as beside,
    costs as costs,
    published as published,
    tables as tables,
    texts as texts,
)
from .presets import PRESETS as PRESETS, Preset as Preset, suite_of as suite_of
from .suite import Run as Run, Suite as Suite, Text as Text
