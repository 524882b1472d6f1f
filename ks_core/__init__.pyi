from .errors import KSLotteryError as KSLotteryError
from .ks.statistic import ks_test as ks_test
from .notebook import audit_ticket as audit_ticket, open_study as open_study, tune as tune
from .tickets.selection import select as select
from .tickets.ticket import Ticket as Ticket, ticket_of as ticket_of
from .trajectory.callback import KSLotteryCallback as KSLotteryCallback
from .trajectory.recorder import Recorder as Recorder
from .tuning.plans import Plan as Plan

__version__: str
