from . import (
    drift as drift,
    extension as extension,
    figures as figures,
    layers as layers,
    map_figures as map_figures,
    named as named,
    neighbourhoods as neighbourhoods,
    outlines as outlines,
    statistics as statistics,
    untrained as untrained,
)
from .critical import Critical as Critical, critical_sentence as critical_sentence, critical_values as critical_values
from .drift import DriftMap as DriftMap
from .export import MEDIA_TYPES as MEDIA_TYPES, read_csv as read_csv, table_bytes as table_bytes
from .layers import LayerScan as LayerScan, scan_layers as scan_layers
from .map_labels import COLOURS as COLOURS, Rows as Rows, Spot as Spot
from .neighbours import METRICS as METRICS
from .scan import Scan as Scan, Study as Study, check_alpha as check_alpha, readable as readable, table as table
