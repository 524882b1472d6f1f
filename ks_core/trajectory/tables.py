"""A trajectory as tables, and as lines for a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ks_core.ks.statistic import critical_value
from ks_core.study.scan import readable
from ks_core.trajectory.history import Trajectory

if TYPE_CHECKING:
    import pandas as pd

#: What a terminal calls a loss and its parts.
_LOSSES = {"all": "loss", "content": "content", "end": "end"}


def points(
    trajectory: Trajectory, strings: list[str] | None, alpha: float, only: Sequence[int] | None = None
) -> pd.DataFrame:
    """A line for each row at each point: ``step, token_id, token, rank, statistic, pvalue, winner, l2, cosine`` and, of a recording,
    ``touched`` and ``gradient``. ``only``: places of the rows that are wanted, all without it."""
    import pandas as pd

    places = np.arange(len(trajectory.token_ids)) if only is None else np.asarray(only, np.int64)
    ids = trajectory.token_ids[places]
    count = len(trajectory.steps)
    columns = {
        "step": np.repeat(trajectory.steps, len(ids)),
        "token_id": np.tile(ids, count),
        "token": [readable(strings, int(i)) for i in ids] * count,
    }
    measured = {
        "rank": trajectory.ranks, "statistic": trajectory.statistic, "pvalue": trajectory.pvalue, "winner": trajectory.winners(alpha),
        "l2": trajectory.l2, "cosine": trajectory.cosine, "touched": trajectory.touched, "gradient": trajectory.gradient,
    }  # fmt: skip
    return pd.DataFrame(columns | {name: v[:, places].ravel() for name, v in measured.items() if v is not None})


def wins(trajectory: Trajectory, strings: list[str] | None, alpha: float) -> pd.DataFrame:
    """A line for each row that ever won, the largest last D first: ``token_id, token, first_win, stays, times_won`` (points with
    p < alpha), ``largest, statistic, pvalue`` (the last two at the end) and, of a recording, ``touched``."""
    import pandas as pd

    won = trajectory.winners(alpha)
    order = trajectory.order()
    order = order[np.any(won, axis=0)[order]]
    ids = trajectory.token_ids[order]
    columns = {
        "token_id": ids,
        "token": [readable(strings, int(i)) for i in ids],
        "first_win": trajectory.first_win(alpha)[order],
        "stays": trajectory.stays(alpha)[order],
        "times_won": won.sum(axis=0)[order],
        "largest": trajectory.statistic.max(axis=0)[order],
        "statistic": trajectory.statistic[-1][order],
        "pvalue": trajectory.pvalue[-1][order],
    }
    if trajectory.touched is not None:
        columns["touched"] = trajectory.touched[-1][order]
    return pd.DataFrame(columns)


def losses(trajectory: Trajectory) -> pd.DataFrame:
    """A line for each step and part of the loss: ``step, part, nats`` (a token); parts are ``all``, ``content`` and ``end``."""
    import pandas as pd

    found = [(step, part, nats) for part, pairs in trajectory.every_loss.items() for step, nats in pairs]
    return pd.DataFrame(sorted(found, key=lambda line: line[0]), columns=["step", "part", "nats"])


def lines(trajectory: Trajectory, strings: list[str] | None, alpha: float, top: int = 10) -> list[str]:
    """What a terminal says: a line for each point, and the rows of largest D with the step of their first win."""
    changed, won = (trajectory.l2 > 0).sum(axis=1), trajectory.winners(alpha).sum(axis=1)
    largest = trajectory.statistic.max(axis=1, initial=0)
    nats = {_LOSSES[part]: dict(pairs) for part, pairs in trajectory.every_loss.items()}
    critical = critical_value(trajectory.dim, alpha)
    reached = f"D >= {critical:.4f}" if critical <= 1 else "no D can reach that"
    found = [
        f"{'step':>8}  {'moved':>8}  {'p < ' + format(alpha, 'g'):>9}  {'largest D':>9}"
        + "".join(f"  {name:>7}" for name in nats)
    ]
    for n, step in enumerate(trajectory.steps.tolist()):
        loss = "".join(f"  {format(at[step], '.3f') if step in at else '':>7}" for at in nats.values())
        found.append(f"{step:>8,}  {changed[n]:>8,}  {won[n]:>9,}  {largest[n]:>9.4f}{loss}".rstrip())
    first, stays = trajectory.first_win(alpha), trajectory.stays(alpha)
    shown = trajectory.order()[: max(top, 0)]
    if len(shown):
        found += ["", f"{'rank':>4}  {'id':>7}  {'D':>7}  {'first win':>9}  {'stays':>5}  token"]
    for rank, n in enumerate(shown, 1):
        when, held = (f"{first[n]:,}", "yes" if stays[n] else "no") if first[n] >= 0 else ("", "")
        token = readable(strings, int(trajectory.token_ids[n]))
        found.append(
            f"{rank:>4}  {int(trajectory.token_ids[n]):>7}  {trajectory.statistic[-1, n]:>7.4f}  {when:>9}  {held:>5}  {token}"
        )
    return [*found, "", f"{trajectory.sentence(alpha)} A row wins with {reached}."]
