from . import drift as drift, figures as figures, layers as layers, named as named
from .critical import Critical as Critical, critical_sentence as critical_sentence, critical_values as critical_values
from .export import MEDIA_TYPES as MEDIA_TYPES, read_csv as read_csv, table_bytes as table_bytes
from .layers import LayerScan as LayerScan, scan_layers as scan_layers
from .scan import Scan as Scan, Study as Study, check_alpha as check_alpha, readable as readable, table as table
