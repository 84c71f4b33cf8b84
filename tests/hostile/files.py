"""Pipeline files that somebody may send."""

from __future__ import annotations

_STAGES = "stages: {a: {use: sink.jsonl}}\n"

FILES: dict[str, str] = {
    "nothing": "",
    "a word": "hello",
    "a list": "- a\n- b\n",
    "a number": "17",
    "tabs": "\tname: x",
    "null characters": "name: \x00\n",
    "terminal commands in a name": 'name: "\\e]0;evil\\a\\e[2J"\nstages: {}\n',
    "terminal commands in a key": '"\\e[2J": 1\n' + _STAGES,
    "an object of Python": "name: !!python/object/apply:os.system [id]\n",
    "a module of Python": "name: !!python/module:os\n",
    "an object of Python that would be seen": "name: !!python/object/apply:pathlib.Path.touch [!!python/object/apply:"
    "pathlib.Path [ran]]\n",
    "a module beside the file, by a path": "stages: {a: {use: ./beside.py:Stage}}\n",
    "a file with a secret": "include: secret.txt\n" + _STAGES,
    "a tag that there is not": "name: !evil x\n",
    "a billion laughs": "\n".join(
        [
            "x-0: &x0 [a, a, a, a, a, a, a, a, a]",
            *(f"x-{n}: &x{n} [{', '.join([f'*x{n - 1}'] * 9)}]" for n in range(1, 12)),
        ]
    ),
    "merges without end": "x-a: &a {b: 1}\nx-c: {" + ", ".join(["<<: *a"] * 5000) + "}\n",
    "an anchor that holds itself": "x-a: &a [*a]\n" + _STAGES,
    "brackets without end": "x-a: " + "[" * 5000,
    "braces without end": "x-a: " + "{a: " * 5000,
    "indents without end": "\n".join(" " * n + "a:" for n in range(1500)),
    "the same key twice": _STAGES + _STAGES,
    "a key that is a list": "? [a]\n: b\n" + _STAGES,
    "a number of 5,000 digits": "latency_budget: " + "9" * 5000 + "\n" + _STAGES,
    "sexagesimals": "latency_budget: " + ":".join(["59"] * 2000) + "\n" + _STAGES,
    "a date that there is not": "name: 2026-99-99\n" + _STAGES,
    "a device": "include: /dev/zero\n" + _STAGES,
    "a file of the system": "include: /etc/shadow\n" + _STAGES,
    "memory of this process": "include: /proc/self/mem\n" + _STAGES,
    "itself": "include: pipeline.yaml\n" + _STAGES,
    "a thousand files": "include: [" + ", ".join(f"f{n}.yaml" for n in range(1000)) + "]\n" + _STAGES,
    "an include that is a mapping": "include: {a: b}\n" + _STAGES,
    "stages that are a list": "stages: [a, b]\n",
    "a stage that is inside": "stages: {a: {use: __init__}}\n",
    "a stage of a million letters": "stages: {a: {use: " + "x" * 900_000 + "}}\n",
    "ten thousand unknown stages": "stages:\n" + "".join(f"  s{n}: {{use: nope.{n}}}\n" for n in range(3000)),
    "a variable of itself": 'variables: {a: "${a}"}\nstages: {a: {use: "${a}"}}\n',
    "variables that double": "variables:\n"
    + "".join(f'  v{n}: "${{v{n - 1}}}${{v{n - 1}}}"\n' if n else "  v0: aaaaaaaaaa\n" for n in range(40))
    + 'stages: {a: {use: "${v39}"}}\n',
    "a connection to itself": _STAGES + "connections: [a -> a]\n",
    "arrows without end": _STAGES + "connections: ['" + "a -> " * 5000 + "a']\n",
    "a capacity below zero": _STAGES + "connections: [{from: a, to: a, capacity: -1}]\n",
    "a capacity of 10^30": _STAGES + f"connections: [{{from: a, to: a, capacity: {10**30}}}]\n",
    "a capacity that is no number": _STAGES + "connections: [{from: a, to: a, capacity: .nan}]\n",
    "a path of the system": "stages: {a: {use: audio.file, path: /etc/shadow, nope: 1}}\n",
    "a text of a kilobyte, nine thousand times": "name: &a " + "y" * 1000 + "\nx-a: [" + "*a," * 9000 + "]\n" + _STAGES,
    "half a million values": "x-a: [" + "a," * 480_000 + "a]\n" + _STAGES,
    "a variable of a kilobyte, a hundred thousand times": "variables: {v: "
    + "y" * 1000
    + '}\nname: "'
    + "${v}" * 100_000
    + '"\n'
    + _STAGES,
    "a million letters and more": "x-a: " + "y" * 1_100_000,
}
"""Each is refused with SpecError or FileError, quickly, and nothing of it runs."""
