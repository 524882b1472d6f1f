"""Over time, on the tiny model: what is said without a trajectory, a recording, checkpoints by a job, a run that is going on."""

import shutil
import time

import pytest
from streamlit.testing.v1 import AppTest

from helpers import trained
from helpers.places import APP
from ks_core.jobs import queue
from ks_core.study import Study
from ks_core.trajectory import FILE, Recorder, drift_paths, open_trajectory
from pages.parts.over_time import OWN


def opened(base, tuned, **query):
    at = AppTest.from_file(APP, default_timeout=120)
    for name, value in {"base": base, "tuned": tuned, "alpha": "0.3", **query}.items():
        at.query_params[name] = value
    at.switch_page("pages/over_time.py")
    return at.run()


@pytest.fixture
def recorded(tiny_model, tmp_path):
    """A recording of the tiny model's training, beside its last checkpoint."""
    model = trained.whole(tiny_model)
    with Recorder(tmp_path / "run" / FILE, model, every=2) as recorder:
        trained.steps(model, recorder)
    model.save_pretrained(tmp_path / "run")
    return tmp_path / "run"


def test_a_pair_without_one_is_told_how_to_get_one(tiny_pair):
    base, tuned, _ = tiny_pair
    at = opened(base, tuned)
    assert not at.exception and not at.error
    assert at.selectbox(key="trajectory").options == [OWN]
    assert "had in three ways" in at.info[0].value
    assert "KSLotteryCallback" in at.code[0].value and "ks_core trajectory" in at.code[1].value
    at.text_input(key="trajectory_where").set_value("nowhere.arrow").run()
    assert "does not exist" in at.error[0].value and not at.exception


def test_a_recording_beside_the_checkpoint_is_shown(recorded, tiny_folder):
    at = opened(str(tiny_folder), str(recorded))
    assert not at.exception and not at.error, [e.value for e in at.error]
    trajectory = open_trajectory(str(tiny_folder), [str(recorded)])
    assert trajectory.sentence(0.3) in at.markdown[1].value.replace("\\", "")
    table = at.dataframe[0].value
    assert table.token_id.tolist() == [
        int(i)
        for i in trajectory.token_ids[trajectory.order()]
        if trajectory.first_win(0.3)[list(trajectory.token_ids).index(i)] >= 0
    ]
    followed = at.multiselect(key="over_time_tokens")
    assert followed.value == [int(i) for i in trajectory.token_ids[trajectory.order()][:8]]
    followed.set_value([5, 30]).run()
    assert not at.exception and len(at.get("plotly_chart")) == 6
    ways = drift_paths(trajectory, Study(str(tiny_folder), str(tiny_folder)).base.matrix, [5, 30])
    (said,) = [c.value for c in at.caption if c.value.startswith("Grey are")]
    assert f"shows {ways.seen:.1%} of" in said and "have no path" not in said


def test_a_recording_of_another_run_than_the_checkpoints_is_said(recorded, tiny_folder, tiny_pair):
    _, other, _ = tiny_pair
    for tuned, words in ((str(recorded), None), (other, "not what the tuned checkpoint holds")):
        if tuned == other:
            shutil.copy(recorded / FILE, other)
        Study(str(tiny_folder), tuned).scan()
        at = opened(str(tiny_folder), tuned)
        assert not at.exception and not at.error, [e.value for e in at.error]
        assert at.selectbox(key="trajectory").value.startswith("The training of")
        assert any("not what the tuned checkpoint holds" in c.value for c in at.caption) == (words is not None)


def test_checkpoints_are_tested_by_a_job(tiny_pair, tmp_path):
    base, tuned, _ = tiny_pair
    for step, source in ((1, base), (2, tuned)):
        shutil.copytree(source, tmp_path / "out" / f"checkpoint-{step}")
    at = opened(base, tuned, trajectory=OWN, trajectory_where=str(tmp_path / "out"))
    (button,) = [b for b in at.button if b.label == "Test the checkpoints"]
    button.click().run()
    (job,) = queue.all_jobs("trajectory")
    assert job.wait(120) == "done", job.error + job.log_tail(30)
    at.run()
    assert not at.exception and not at.error, [e.value for e in at.error]
    assert "At step 2 10 rows have moved" in at.markdown[1].value


def test_a_run_that_is_going_on_is_followed(tiny_plan, tiny_folder):
    job = queue.submit("tune", tiny_plan(["embed:steps=100000"]).as_dict(), label="long")
    try:
        file = job.folder / "arms" / "00-embed" / FILE
        for _ in range(600):
            if file.is_file() and len(open_trajectory("", [str(file)]).steps) > 2:
                break
            assert job.state in ("queued", "running"), job.error + job.log_tail(30)
            time.sleep(0.3)
        Study(str(tiny_folder), str(tiny_folder)).scan()
        at = opened(str(tiny_folder), str(tiny_folder))
        assert not at.exception and not at.error, [e.value for e in at.error]
        assert "going on" in at.caption[0].value and "arm 00-embed: long" in at.selectbox(
            key="trajectory"
        ).value.replace("\\", "")
        assert len(at.get("plotly_chart")) == 3
    finally:
        job.cancel()
        assert job.wait(120) in ("cancelled", "done")
    at.run()
    assert not at.exception and len(at.get("plotly_chart")) == 6
