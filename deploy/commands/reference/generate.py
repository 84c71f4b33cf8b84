"""Writes the files that are made from the code: references of stages and payloads, the schema of pipeline files."""

from __future__ import annotations

import json
from pathlib import Path

from thalweg.deploy.commands.reference.payloads import payloads_markdown
from thalweg.deploy.commands.reference.schema import pipeline_schema
from thalweg.deploy.commands.reference.stages import reference_markdown
from thalweg.stages.io.terminal import say


def generated() -> dict[str, str]:
    """Path from the repository's root → text."""
    return {
        "docs/stages.md": reference_markdown(),
        "docs/payloads.md": payloads_markdown(),
        "docs/pipeline.schema.json": json.dumps(pipeline_schema(), indent=2, ensure_ascii=False) + "\n",
    }


if __name__ == "__main__":
    for name, text in generated().items():
        Path(name).write_text(text, encoding="utf-8")
        say(f"wrote {name}")
