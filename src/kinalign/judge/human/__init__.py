"""People as a judge: the scores that they gave, looked up by what was scored."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import median_low

from kinalign.judge.human.labels import Score, case_key, read_labels
from kinalign.judge.rubric import SubTask
from kinalign.judge.verdict import Case, Invalid, Outcome, Verdict
from kinalign.motion.motion import Motion


class HumanJudge:
    """Answers with the scores in label files, for the same prompt, the same joints and the same sub-task.

    Of several people's scores it takes the median, the lower one of two. What nobody scored, or where all could not
    tell, is Invalid. Raises LabelError for a file that holds no labels.
    """

    def __init__(self, labels: str | Path | Sequence[str | Path]) -> None:
        paths = [Path(path) for path in ([labels] if isinstance(labels, (str, Path)) else labels)]
        self._scores: dict[tuple[str, SubTask], list[Score]] = {}
        for label in read_labels(paths):
            if isinstance(label, Score):
                self._scores.setdefault((label.key, label.task), []).append(label)
        users = sorted({score.user for scores in self._scores.values() for score in scores})
        self.name = f"human ({', '.join(users) or 'nobody'})"

    def judge_all(self, cases: Sequence[Case]) -> list[Outcome]:
        """An answer for each case, in their order."""
        return [self._judge(case) for case in cases]

    def __call__(self, prompt: str, motion: Motion) -> Outcome:
        """`judge_all` of the one case that the prompt makes."""
        return self._judge(Case.of(prompt, motion))

    def _judge(self, case: Case) -> Outcome:
        given = self._scores.get((case_key(case.prompt, case.motion), case.task))
        if given is None:
            return Invalid(self.name, f"not labelled yet as {case.task}; run kinalign judge label PAIRS --scores")
        told = {score.user: score.score for score in given if score.score is not None}
        if not told:
            return Invalid(self.name, f"{', '.join(score.user for score in given)} could not tell")
        reason = ", ".join(f"{user}: {score}" for user, score in told.items())
        return Verdict(median_low(told.values()), case.task, self.name, reason)
