#!/usr/bin/env python3
"""Run every row of the tables of docs/nets/training.md, and say which rows print other figures now.

How to run (from the root of the repository; it needs no package):

    cargo build --release -p nets
    python3 nets/train/chapter.py                  # all tables, about ten minutes
    python3 nets/train/chapter.py Optimisers       # the tables of one section
    python3 nets/train/chapter.py --write          # put the new figures into the tables

A line of the form "Each row: `nets train ... ROW ...`" stands above each table. ROW is the first cell of a row. The other cells are
the training loss, training accuracy, validation loss and validation accuracy of the last epoch. Figures depend on the instruction
set and on the kernels that are chosen. Exit code 1 if a row differs.
"""
import argparse
import re
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CHAPTER = ROOT / "docs" / "nets" / "training.md"
PROGRAM = ROOT / "target" / "release" / "nets"


def figures(command, program):
    """The four figures of the last epoch."""
    with tempfile.TemporaryDirectory() as folder:
        arguments = [*shlex.split(command), "--out", f"{folder}/weights.safetensors"]
        run = subprocess.run([program, *arguments], cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if run.returncode:
        sys.exit(f"error: nets {command}: {run.stderr}")
    epochs = [line.split() for line in run.stdout.split("\n") if re.match(r"\s+\d+\s+\d\.\d+e", line)]
    if not epochs:
        sys.exit(f"error: nets {command}: expected a table of epochs, got\n{run.stdout}")
    _, _, loss, accuracy, _, validation_loss, validation_accuracy, *_ = epochs[-1]
    return [loss, f"{accuracy} %", validation_loss, f"{validation_accuracy} %"]


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("section", nargs="*", help="only tables of these sections")
    p.add_argument("--write", action="store_true", help="write the new figures into the chapter")
    p.add_argument("--program", default=str(PROGRAM), help="the program, if it is not target/release/nets")
    args = p.parse_args()
    section, command, rows, differ = "", None, 0, 0
    lines = CHAPTER.read_text().split("\n")
    for index, line in enumerate(lines):
        if line.startswith("## "):
            section, command = line[3:], None
        found = re.fullmatch(r"Each row: `nets (train .*)`", line)
        command = found[1] if found else command
        is_table = line.startswith("|")
        if found or not is_table:
            # A command is that of the next table only, which ends at the first line that is no row.
            if rows and not found:
                command = None
            rows = 0
            continue
        rows += 1
        if command is None or rows <= 2 or (args.section and section not in args.section):
            continue
        first, *expected = [cell.strip() for cell in line.strip("|").split("|")]
        got = figures(command.replace("ROW", first.strip("`")), args.program)
        verdict = "same" if got == expected else "DIFFERS"
        differ += got != expected
        print(f"{verdict}: {section}: {first}: {', '.join(got)}", flush=True)
        if args.write:
            lines[index] = f"| {first} | {' | '.join(got)} |"
    if args.write:
        CHAPTER.write_text("\n".join(lines))
    sys.exit(differ > 0 and not args.write)


if __name__ == "__main__":
    main()
