"""`python -m thalweg.models.recipes.asr data|train|export|evaluate`: see README.md beside this file."""

from __future__ import annotations

import argparse
from pathlib import Path


def main() -> None:
    """Read the command line and run one part."""
    parser = argparse.ArgumentParser(prog="python -m thalweg.models.recipes.asr", description=__doc__)
    parts = parser.add_subparsers(dest="part", required=True)

    data = parts.add_parser("data", help="synthesize speech for training and testing")
    data.add_argument("folder", type=Path)
    data.add_argument("--shards", type=int, default=300, help="of 200 utterances, about 12 minutes, each")
    data.add_argument("--test-shards", type=int, default=2)
    data.add_argument("--words", type=Path, help="a pronouncing dictionary or a list of words")
    data.add_argument("--text", type=Path, help="sentences, one a line; or WordNet's folder")
    data.add_argument("--piper", type=Path, nargs="*", default=[], help="Piper voices, .onnx with its .onnx.json")
    data.add_argument(
        "--seed", type=int, default=0, help="seed of the training sentences and voices; another seed gives other shards"
    )
    data.add_argument("--workers", type=int, default=1)

    train = parts.add_parser("train", help="train, or go on training")
    train.add_argument("folder", type=Path)
    train.add_argument("--words", type=Path)
    train.add_argument("--text", type=Path, help="as for `data`")
    train.add_argument("--plan", choices=("cpu", "gpu"), default="gpu", help="network and schedule")
    train.add_argument(
        "--hours", type=float, default=8.0, help="of work, all runs together; more of them later is fine"
    )
    train.add_argument("--start", help="begin with the weights of this model: what `export` wrote, or a name")
    train.add_argument("--processes", type=int, default=1, help="without a GPU: one for each core, with a thread each")

    export = parts.add_parser("export", help="write the deployed form of what was trained")
    export.add_argument("folder", type=Path)
    export.add_argument("out", type=Path)
    export.add_argument("--plan", choices=("cpu", "gpu"), default="gpu", help="as it was trained")
    export.add_argument("--fp32", action="store_true")

    evaluate = parts.add_parser("evaluate", help="print the table of word error rates and latencies")
    evaluate.add_argument("model", help="what `export` wrote, or a name of `thalweg models list`")
    evaluate.add_argument("folder", type=Path, help="what `data` wrote")
    evaluate.add_argument("--human", type=Path, help="pocketsphinx-testdata's folder")
    evaluate.add_argument("--most", type=int, default=100, help="utterances of held-out voices")
    evaluate.add_argument("--json", type=Path, help="rows, one a line, as they are made; goes on with what is there")

    given = parser.parse_args()
    {"data": _data, "train": _train, "export": _export, "evaluate": _evaluate}[given.part](given)


def _data(given: argparse.Namespace) -> None:
    from thalweg.models.recipes.asr.corpus.data import Source, make_shards

    piper = tuple(given.piper)
    for test, count in ((True, given.test_shards), (False, given.shards)):
        seed = 0 if test else given.seed
        source = Source(test=test, seed=seed, words=given.words, extra=given.text, piper=piper)
        make_shards(given.folder / ("test" if test else "train"), count, source, given.workers)


def _train(given: argparse.Namespace) -> None:
    from torch.multiprocessing.spawn import spawn

    from thalweg.models.recipes.asr.plan import PLANS
    from thalweg.models.recipes.asr.start import make_tokenizer, start_from
    from thalweg.models.recipes.asr.train import run

    plan = PLANS[given.plan]
    if given.start:
        plan = start_from(given.start, given.folder, plan)
    make_tokenizer(given.folder, given.words, given.text, plan.vocabulary)
    arguments = (given.processes, given.folder, plan, given.hours, given.words)
    if given.processes > 1:
        spawn(run, arguments, given.processes)  # type: ignore[no-untyped-call]
    else:
        run(0, *arguments)


def _export(given: argparse.Namespace) -> None:
    from thalweg.models.recipes.asr.plan import PLANS
    from thalweg.models.recipes.asr.start import write_model
    from thalweg.models.recipes.asr.train import Trainer

    trainer = Trainer(given.folder, PLANS[given.plan], 1.0)
    write_model(trainer, given.out, int8=not given.fp32)
    print(f"{given.out}: step {trainer.step}, {trainer.heard_s / 3600:.1f} h heard")


def _evaluate(given: argparse.Namespace) -> None:
    import os

    from thalweg.models.recipes.asr.evaluate import cases, measure, table
    from thalweg.models.speech.loading import load_deployed

    into = given.json or Path(os.devnull)
    print(table(measure(load_deployed(given.model), cases(given.folder / "test", given.human, given.most), into)))


if __name__ == "__main__":
    main()
