from . import figures as figures, tables as tables
from .callback import KSLotteryCallback as KSLotteryCallback
from .history import Trajectory as Trajectory
from .opening import is_ready as is_ready, known as known, open_trajectory as open_trajectory
from .paths import PLANES as PLANES, Paths as Paths, drift_paths as drift_paths
from .recorder import Recorder as Recorder
from .recording import FILE as FILE
