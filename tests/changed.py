"""Which test files a change touches, for `make quick`.

A module that was changed touches every test file that imports it, or anything that imports it in turn (the graph is
grimp's, as import-linter's), that names a stage of it as pipeline files do, or that lies where it lies. Other files
touch the tests in whose text their name stands. What is asked of the code as a whole (`tests/test_*.py`) is always run.
"""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from collections.abc import Iterable
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parent.parent
EVERYTHING = ("pyproject.toml", "Makefile", "tests/conftest.py", "tests/unit_guard.py")
"""Where one of these was changed, every test is touched."""


def changed_files(root: Path = ROOT) -> list[str]:
    """Files that are not as in the last commit, or were changed since `main`. Raises OSError without git."""
    try:
        since = _git(root, "merge-base", "HEAD", "main") or ["HEAD"]
        differ = _git(root, "diff", "--name-only", since[0])
        return sorted({*differ, *_git(root, "ls-files", "--others", "--exclude-standard")})
    except subprocess.CalledProcessError as error:
        raise OSError(f"git does not say what was changed: {error.stderr.strip()}") from None


def touched(changed: Iterable[str], root: Path = ROOT) -> set[Path] | None:
    """Test files that those changes touch; None for all."""
    files = list(changed)
    if any(file in EVERYTHING for file in files):
        return None
    modules = {module for file in files if (module := _module(file))}
    reached = _reached(modules)
    names = _stage_names(root, modules)
    others = {Path(file).name for file in files if not file.endswith(".py")}
    found = set((root / "tests").glob("test_*.py"))
    for test in (root / "tests").rglob("test_*.py"):
        own, text = test.relative_to(root), test.read_text(encoding="utf-8")
        if (
            str(own) in files
            or _mirrored(own) & set(files)
            or reached & _imports(test, root)
            or any(f'"{name}"' in text or f" {name}" in text for name in names)
            or any(name in text for name in others)
        ):
            found.add(test)
    return found


def _git(root: Path, *arguments: str) -> list[str]:
    done = subprocess.run(
        ["git", *arguments], cwd=root, capture_output=True, text=True, check=arguments[0] != "merge-base"
    )
    return done.stdout.splitlines()


def _module(file: str) -> str:
    """`stages/speech/vad.py` → `thalweg.stages.speech.vad`; empty for what is no module of the product."""
    path = Path(file)
    if path.suffix != ".py" or not (ROOT / "thalweg" / path.parts[0]).exists():
        return ""
    parts = path.with_suffix("").parts
    return ".".join(("thalweg", *(parts[:-1] if parts[-1] == "__init__" else parts)))


def _reached(modules: set[str]) -> set[str]:
    """Those, and all that import them."""
    import grimp

    graph = grimp.build_graph("thalweg")
    known = modules & graph.modules
    return modules.union(*(graph.find_downstream_modules(module) for module in known))


def _stage_names(root: Path, modules: set[str]) -> set[str]:
    """What pipeline files call the stages in those modules."""
    points = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]["entry-points"]
    return {name for group in points.values() for name, place in group.items() if place.partition(":")[0] in modules}


def _mirrored(test: Path) -> set[str]:
    """The modules whose tests these are: `tests/stages/speech/test_vad.py` is of `stages/speech/vad.py`."""
    folder = Path(*test.parts[1:-1])
    name = test.stem.removeprefix("test_")
    return {str(folder / f"{name}.py"), str(folder / name / "__init__.py")}


def _imports(test: Path, root: Path) -> set[str]:
    """Modules of the product that a test file imports, anywhere in it, and what it imports of other tests does."""
    found, seen, left = set[str](), {test}, [test]
    while left:
        for name in _names(left.pop()):
            helper = root / (name.replace(".", "/") + ".py")
            if name.startswith("thalweg"):
                found.add(name)
            elif helper.name != "conftest.py" and helper not in seen and helper.exists():
                seen.add(helper)
                left.append(helper)
    return found


@cache
def _names(file: Path) -> frozenset[str]:
    """What a file imports of the product and of the tests."""
    found = set[str]()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.update((node.module, *(f"{node.module}.{alias.name}" for alias in node.names)))
    return frozenset(name for name in found if name.startswith(("thalweg", "tests.")))


def main() -> None:
    """Print what the files among the arguments touch, or those that differ from `main`; nothing stands for all."""
    try:
        changed = sys.argv[1:] or changed_files()
        why = "" if changed else "nothing differs from main"
    except OSError as error:
        changed, why = [], str(error)
    chosen = touched(changed) if changed else None
    if chosen is None:
        _say(f"all unit tests: {why or 'they all stand on what was changed'}")
        return
    _say(f"{len(changed)} files that differ from main touch {len(chosen)} files of tests; `make unit` runs all")
    print("\n".join(sorted(str(path.relative_to(ROOT)) for path in chosen)))


def _say(text: str) -> None:
    print(text, file=sys.stderr)


if __name__ == "__main__":
    main()
