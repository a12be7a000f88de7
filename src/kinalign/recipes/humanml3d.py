"""AToM's alignment of MotionGPT on HumanML3D (Han et al. 2024), for who has the data, the weights and a GPU.

    python -m kinalign.recipes.humanml3d --data HumanML3D --checkpoint motiongpt_s3_h3d.tar --t5 flan-t5-base \\
        --stats MotionGPT/assets/meta --judge lvlm:judge.json --out runs/humanml3d

Convert, candidates and verdicts, IPO, evaluation; stopped and started again it goes on where it was. `--dry-run`
converts and says what candidates and verdicts take and cost, measured on a few prompts.

Nobody has run it at full size yet; estimates, for one GPU of 24 GB: an hour for 52,760 motions; as many questions to a
vision-language model, at 10 a second one hour and a half; a quarter of an hour to learn from some 3,500 pairs
(2,000 steps); three hours to evaluate both models in 20 replications.

What the paper says of its own (by the published evaluator): FID 0.655 to 0.613 and MM-Dist 5.652 to 5.576 on its
temporal prompts, FID 0.177 on HumanML3D's test split; people prefer the aligned model's motions in 84 % (integrity),
74 % (temporal) and 70 % (frequency). Its prompts and those sub-task sets are not published: Kinalign's are its own, so
these numbers say what to hope for, not what comes out.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
import tyro

from kinalign.alignment.preference import ADAPTER, AlignPreference, PreferenceConfig, align_preference
from kinalign.convert import FromMotionGPT, from_motiongpt
from kinalign.data.dataset import load_dataset
from kinalign.evaluation.commands import Evaluate, evaluate_command
from kinalign.evaluation.metrics import fid
from kinalign.evaluation.published import PublishedEvaluator
from kinalign.judge.rubric import SUB_TASKS, SubTask
from kinalign.lm.lora import is_adapter
from kinalign.pipeline import TextToMotion
from kinalign.preference.build import PreferBuild, prefer_build
from kinalign.preference.dataset import load_preferences
from kinalign.run import read_json, write_json
from kinalign.training import Optimization

LEARNING = PreferenceConfig(
    loss="ipo",
    beta=0.1,
    batch_size=32,
    optimization=Optimization(
        learning_rate=1e-3, warmup_steps=150, betas=(0.9, 0.999), log_every=10, checkpoint_every=100, seed=2222
    ),
)
"""As AToM, with LoRA of rank 8, alpha 16 and dropout 0.05; the number of steps follows from that of the pairs."""


@dataclass(frozen=True)
class Recipe:
    """Align MotionGPT as AToM does, and evaluate what came of it."""

    data: Path
    """HumanML3D's folder: texts/, new_joints/, new_joint_vecs/ and the lists of its splits."""
    checkpoint: Path
    """motiongpt_s3_h3d.tar."""
    t5: Path
    """Folder of flan-t5-base."""
    stats: Path
    """MotionGPT's assets/meta."""
    out: Path = Path("runs/humanml3d")
    """motiongpt/, preferences/, aligned/ and reports, of which those that are whole are not made anew."""
    judge: str = "lvlm:judge.json"
    """Who judges the candidates: a vision-language model with its settings, as AToM; kinematic costs nothing."""
    task: tuple[SubTask, ...] = SUB_TASKS
    """Sub-tasks, with commas between: AToM learns each apart, and all together."""
    prompts: int = 5276
    candidates: int = 10
    """Motions for each prompt."""
    constrained: bool = False
    """Whether the model is kept to answers that are motions; AToM's was not: what is none is in no pair."""
    epochs: int = 20
    learning: PreferenceConfig = field(default_factory=lambda: LEARNING)
    """How it learns from pairs."""
    examiners: tuple[str, ...] = ("kinematic", "learned")
    """Who looks at both models' motions in the end."""
    encoder: Path | None = None
    """Evaluator folder; the shipped one, which is openmocap20's, where it is left out."""
    published: Path | None = None
    """Folder with the published evaluator, for FID as in the paper: finest.tar, mean.npy, std.npy and our_vab_*."""
    prompts_per_task: int = 60
    """Held-out prompts of each sub-task in the evaluation of events."""
    replications: int = 20
    """Of the evaluation on the test split; that of events has 3."""
    dry_run: bool = False
    """Convert, and say what candidates and verdicts take and cost."""
    threads: int = 2
    """Processor threads."""


def run(recipe: Recipe) -> Path:
    """Convert, build preferences, align and evaluate; the folder of all."""
    torch.set_num_threads(recipe.threads)
    base = recipe.out / "motiongpt"
    if not (base / "config.json").is_file():
        from_motiongpt(FromMotionGPT(checkpoint=recipe.checkpoint, t5=recipe.t5, stats=recipe.stats, out=base))
    pairs = PreferBuild(
        out=recipe.out / "preferences",
        task=recipe.task,
        prompts=recipe.prompts,
        candidates=recipe.candidates,
        judge=recipe.judge,
        model=base,
        constrained=recipe.constrained,
        dry_run=recipe.dry_run,
        threads=recipe.threads,
    )
    prefer_build(pairs)
    if recipe.dry_run:
        return recipe.out
    adapter = recipe.out / "aligned" / ADAPTER
    if not is_adapter(adapter):
        align_preference(_learning(recipe, base, pairs.out))
    _evaluate(recipe, "base", base, ())
    _evaluate(recipe, "aligned", base, (str(adapter),))
    for kind in ("events", "test"):
        both = (recipe.out / f"base-{kind}", recipe.out / f"aligned-{kind}")
        evaluate_command(Evaluate(events=kind == "events", compare=both))
    return recipe.out


def _learning(recipe: Recipe, base: Path, data: Path) -> AlignPreference:
    """The settings of the paper for so many pairs."""
    learning = recipe.learning
    learned_from = len(load_preferences(data)) * (1 - learning.held_out)
    steps = max(1, round(learned_from * recipe.epochs / learning.batch_size))
    settings = replace(learning, optimization=replace(learning.optimization, steps=steps))
    own = {name: getattr(settings, name) for name in PreferenceConfig.__dataclass_fields__}
    return AlignPreference(**own, data=data, model=base, out=recipe.out / "aligned", threads=recipe.threads)


def _evaluate(recipe: Recipe, name: str, base: Path, adapter: tuple[str, ...]) -> None:
    """Events on held-out prompts, quality on the test split, and FID as the paper has it."""
    common = Evaluate(model=base, adapter=adapter, data=recipe.data, encoder=recipe.encoder, threads=recipe.threads)
    evaluate_command(
        replace(
            common,
            out=recipe.out / f"{name}-events",
            events=True,
            judge=recipe.examiners,
            prompts_per_task=recipe.prompts_per_task,
        )
    )
    evaluate_command(replace(common, out=recipe.out / f"{name}-test", task="t2m", replications=recipe.replications))
    path = recipe.out / f"{name}-published.json"
    if recipe.published is not None and not path.is_file():
        model = TextToMotion.from_pretrained(base, adapter=adapter[0] if adapter else None)
        write_json(path, {"fid": published_fid(model, recipe.data, recipe.published)})
    if path.is_file():
        print(f"{name}: FID {read_json(path)['fid']:.3f} on the test split, by the published evaluator")


def published_fid(model: TextToMotion, data: Path, evaluator: Path) -> float:
    """FID of a motion for the first caption of each clip of the test split, by the field's published evaluator."""
    encoder = PublishedEvaluator.from_published(
        evaluator / "finest.tar", glove=evaluator, mean=evaluator / "mean.npy", std=evaluator / "std.npy"
    )
    clips = load_dataset(data, "test")
    made = model.generate([clip.captions[0] for clip in clips])
    motions = [motion for generated in made for motion in generated.motions]
    return fid(encoder.encode_motion([clip.motion for clip in clips]), encoder.encode_motion(motions))


if __name__ == "__main__":
    print(run(tyro.cli(Recipe)))
