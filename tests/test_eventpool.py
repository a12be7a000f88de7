"""Reports of several seeds as one: nothing is lost, a prompt stays one, and what cannot be pooled is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from test_evaluate import clip_of
from test_eventrun import TEXTS, Counting, prompts_of, run
from test_pipeline import lm_of, tokenizer_of

from kinalign.errors import EvaluationError
from kinalign.evaluation.eventpool import pools_of
from kinalign.evaluation.eventquality import PHYSICS
from kinalign.evaluation.eventreport import EventReport
from kinalign.evaluation.eventrun import EventSettings
from kinalign.evaluation.eventstore import EventFolder
from kinalign.evaluation.eventtruth import EVENT_METRICS
from kinalign.pipeline import TextToMotion
from kinalign.run import read_json, write_json

NAME = "counting"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """whole/: two motions of each prompt; other/: one of each of two prompts, of which the first report has one."""
    root, model, clips = tmp_path_factory.mktemp("reports"), TextToMotion(lm_of(), tokenizer_of()), clips_of()
    run(model, root / "whole", clips, Counting())
    texts = (TEXTS[0], "a person kicks, then waves.")
    run(model, root / "other", clips, Counting(), prompts=prompts_of(texts), settings=EventSettings(1, seed=5))
    return root


def clips_of() -> list:
    return [clip_of(number) for number in range(34)]


def halves(whole: Path, root: Path) -> list[Path]:
    """A report of two replications as two reports of one."""
    folders = [Path(shutil.copytree(whole, root / name)) for name in ("first", "second")]
    for number, folder in enumerate(folders):
        for path in (
            sorted(folder.glob("motions/*")) + sorted(folder.glob("measures/0*")) + sorted(folder.glob("verdicts/*/0*"))
        ):
            if path.name.startswith(f"{1 - number:03d}"):
                path.unlink()
            else:
                path.rename(path.with_name(f"000{path.name[3:]}"))
        for name in ("config.json", "report.json"):
            values = read_json(folder / name)
            (values.get("config") or values)["settings"]["replications"] = 1
            write_json(folder / name, values)
    return folders


def test_two_halves_of_a_report_have_its_numbers_and_its_intervals(made: Path, tmp_path: Path) -> None:
    pools, prompts = pools_of({"halves": halves(made / "whole", tmp_path), "whole": [made / "whole"]})
    report = EventReport.load(made / "whole")
    assert len(prompts) == len(TEXTS)
    for pool in pools.values():
        assert pool.events(NAME) == {name: report.number(NAME, name) for name in EVENT_METRICS}
        assert {name: pool.quality()[name] for name in PHYSICS} == {name: report.number(NAME, name) for name in PHYSICS}
    motions, places = pools["halves"].vectors()
    assert np.bincount(places).tolist() == [2, 2, 2, 2]
    whole = EventFolder.load(made / "whole").measured().vectors
    assert np.array_equal(motions[places == 1], whole[1])
    assert pools["halves"].differences(pools["whole"], NAME)["event_recall"][1:] == pytest.approx(
        [report.number(NAME, "event_recall").value] * 2 + [0, 0]
    )


def test_a_prompt_of_two_reports_is_one_row_and_one_id_of_two_prompts_is_two(made: Path) -> None:
    pools, prompts = pools_of({"both": [made / "whole", made / "other"]})
    assert [one.prompt for one in prompts] == [*TEXTS, "a person kicks, then waves."]
    tally = pools["both"].tallies(NAME)["unjudged"]
    # out of how many: two motions of each prompt, and one of the first and the last
    assert tally[..., 1].tolist() == [[1, 1, 1], [1, 1, 0], [1, 1, 0], [1, 1, 0], [0, 0, 1]]
    reports = [EventReport.load(made / name) for name in ("whole", "other")]
    recalls = [report.number(NAME, "event_recall") for report in reports]
    seen = sum((one.value or 0) * one.of for one in recalls)
    found = pools["both"].events(NAME)["event_recall"]
    assert found.value == pytest.approx(seen / found.of) and found.of == sum(one.of for one in recalls)
    invalid = [(report.invalid.value or 0) * report.invalid.of for report in reports]
    assert pools["both"].invalid() == pytest.approx(sum(invalid) / 6)


def test_what_cannot_be_pooled_is_refused(made: Path, tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match="there is no report yet"):
        pools_of({})
    with pytest.raises(EvaluationError, match=r"holds no report\.json"):
        pools_of({"none": [tmp_path]})
    pools, _ = pools_of({"whole": [made / "whole"]})
    with pytest.raises(EvaluationError, match=r"nobody else has not judged .*whole, but counting has"):
        pools["whole"].events("nobody else")
    other = Path(shutil.copytree(made / "other", tmp_path / "other"))
    report = json.loads((other / "report.json").read_text(encoding="utf-8"))
    report["config"]["sha256"]["encoder"] = "f" * 64
    write_json(other / "report.json", report)
    with pytest.raises(EvaluationError, match=r"of other encoder \(sha256 eeeeeeeeeeee and ffffffffffff\)"):
        pools_of({"a": [made / "whole"], "b": [other]})
