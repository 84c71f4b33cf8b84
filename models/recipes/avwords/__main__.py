"""`python -m thalweg.models.recipes.avwords train FOLDER`: makes the bundle; `pack FILE`: samples for replay."""

from __future__ import annotations

import argparse
from pathlib import Path


def main() -> None:
    """Train or make samples, as asked."""
    parser = argparse.ArgumentParser(prog="python -m thalweg.models.recipes.avwords", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    train = commands.add_parser("train", help="make the bundle: about twenty minutes on one core")
    train.add_argument("folder", type=Path)
    train.add_argument("--clips", type=int, default=5440, help="clips of the training set, each spoiled twice")
    train.add_argument("--epochs", type=int, default=20, help="and half as many mostly of the largest encoders")
    pack = commands.add_parser("pack", help="write samples for `sensing.replay`")
    pack.add_argument("file", type=Path)
    pack.add_argument("--split", choices=("train", "val", "test"), default="test")
    pack.add_argument("--count", type=int, default=68)
    pack.add_argument("--condition", choices=("clean", "noisy"), default="clean")
    pack.add_argument("--seed", type=int, default=0)
    ablate = commands.add_parser("ablate", help="train aggregation with one part left out at a time, and compare")
    ablate.add_argument("weights", type=Path, help="network.pt that `train` left in its folder")
    ablate.add_argument("json", type=Path)
    whole = commands.add_parser("fullwindow", help="train and measure a network that takes the whole window at once")
    whole.add_argument("json", type=Path)
    whole.add_argument("--clips", type=int, default=5440)
    whole.add_argument("--epochs", type=int, default=12)
    given = parser.parse_args()
    if given.command == "train":
        from thalweg.models.recipes.avwords.train import make_bundle

        make_bundle(given.folder, given.clips, given.epochs)
    elif given.command == "ablate":
        from thalweg.models.recipes.avwords.ablate import ablate as run

        run(given.weights, given.json)
    elif given.command == "fullwindow":
        from thalweg.models.recipes.avwords.fullwindow import measure

        measure(given.json, given.clips, given.epochs)
    else:
        from thalweg.models.recipes.avwords.pack import make_pack

        make_pack(given.file, given.split, given.count, given.condition, given.seed)


if __name__ == "__main__":
    main()
