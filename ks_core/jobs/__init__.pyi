from . import bounded as bounded, cluster as cluster, devices as devices, turns as turns
from .cluster import Allocation as Allocation
from .handle import FINAL as FINAL, Job as Job, Progress as Progress, duration as duration, queue_words as queue_words
from .kinds import KINDS as KINDS, Kind as Kind
from .queue import (
    all_jobs as all_jobs,
    find as find,
    on_nodes as on_nodes,
    requeue as requeue,
    resume as resume,
    submit as submit,
)
from .resources import PRECISIONS as PRECISIONS, Resources as Resources
from .running import Running as Running
