"""`python -m thalweg.models.recipes.vehicle train FOLDER`: makes the bundle; `pack FILE`: samples for replay."""

from __future__ import annotations

import argparse
from pathlib import Path


def main() -> None:
    """Train or make samples, as asked."""
    parser = argparse.ArgumentParser(prog="python -m thalweg.models.recipes.vehicle", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    train = commands.add_parser("train", help="make the bundle: some minutes on one core")
    train.add_argument("folder", type=Path)
    train.add_argument("--scenes", type=int, default=5600)
    train.add_argument("--epochs", type=int, default=12)
    pack = commands.add_parser("pack", help="write samples for `sensing.replay`")
    pack.add_argument("file", type=Path)
    pack.add_argument("--split", choices=("train", "val", "test"), default="test")
    pack.add_argument("--count", type=int, default=70)
    pack.add_argument("--condition", choices=("clean", "noisy"), default="clean")
    given = parser.parse_args()
    if given.command == "train":
        from thalweg.models.recipes.vehicle.train import make_bundle

        make_bundle(given.folder, given.scenes, given.epochs)
    else:
        from thalweg.models.recipes.vehicle.pack import make_pack

        make_pack(given.file, given.split, given.count, given.condition)


if __name__ == "__main__":
    main()
