"""`kinalign judge label`: people as judges."""

from __future__ import annotations

import contextlib
import webbrowser
from dataclasses import dataclass
from pathlib import Path

import tyro

from kinalign.errors import ConfigError
from kinalign.judge.human.annotators import agreement_report
from kinalign.judge.human.labels import LabelFile, read_labels, write_merged
from kinalign.judge.human.page import serving
from kinalign.judge.human.questions import read_pairs, read_scored
from kinalign.judge.human.session import Session, ask_in_terminal


@dataclass(frozen=True)
class LabelConfig:
    """Say which of two motions is better, or score motions one by one; or see how far people agree."""

    pairs: tyro.conf.Positional[Path | None] = None
    """A folder of `kinalign prefer build`, or a JSONL file with id, prompt, sample_1 and sample_2, each with the path
    of a motion; with --scores also with id, prompt and motion."""
    out: Path | None = None
    """JSONL file of the labels, added to; with --agreement, where to write one line a pair with the votes of all."""
    user: str = ""
    """Who labels."""
    scores: bool = False
    """Score each motion from 1 to 5 instead of comparing two."""
    terminal: bool = False
    """Ask here, with sheets of frames as pictures beside OUT, instead of on a page."""
    open: bool = False
    """Open the page in the browser."""
    port: int = 0
    """Of the page; 0 takes a free one."""
    seed: int = 0
    """Says, with user and id, which motion of a pair stands on the left."""
    agreement: tuple[Path, ...] = ()
    """Label files: asks nothing, but prints how far their people agree."""


def label(config: LabelConfig) -> None:
    """Say which of two motions is better, or score motions one by one; or see how far people agree."""
    if config.agreement:
        if config.out in config.agreement:
            raise ConfigError(f"{config.out} is one of the label files; write the votes of all to another one (--out)")
        labels = read_labels(config.agreement)
        print(agreement_report(labels))
        if config.out is not None:
            print(write_merged(labels, config.out))
        return
    if config.pairs is None or config.out is None or not config.user:
        raise ConfigError(
            "say what is labelled, where to and by whom: kinalign judge label PAIRS --out FILE --user NAME"
        )
    questions = read_scored(config.pairs) if config.scores else read_pairs(config.pairs)
    with LabelFile.opened(config.out, config.user) as file:
        session = Session(questions, file, seed=config.seed)
        # who has seen enough ends it from the keyboard
        with contextlib.suppress(KeyboardInterrupt):
            if config.terminal:
                ask_in_terminal(session, config.out.with_suffix(".sheets"))
            else:
                _on_a_page(session, config)
        print(f"{session.num_answered} of {len(questions)} are labelled by {config.user} in {config.out}")


def _on_a_page(session: Session, config: LabelConfig) -> None:
    with serving(session, port=config.port) as (server, thread):
        print(
            f"{server.address}\nOpen this address on this machine; Ctrl-C ends. Every answer is saved at once.",
            flush=True,
        )
        if config.open:
            webbrowser.open(server.address)
        thread.join()
