"""Reads a thread sanitizer's log, and fails if a data race is of this workspace.

Where the standard library is not instrumented, locks and channels order nothing that the sanitizer sees, and whoever uses
them is reported: the thread pool, the test harness. A race is ours if the innermost frame outside of the standard library
of both accesses is: what this workspace's code shares, only its code reads and writes."""

import re
import sys

FRAME = re.compile(r"\s+#\d+ (.*)")
STANDARD = ("/rustc/", "compiler-rt")
OURS = re.compile(r"/(kernels|nets)/src/")


def is_ours(stack):
    outside = (frame for frame in stack if not any(name in frame for name in STANDARD))
    return bool(OURS.search(next(outside, "")))


def accesses(report):
    """The stacks of both accesses: what follows them is where threads and memory come from."""
    stacks = []
    for block in report.split("\n\n"):
        head = block.strip().splitlines()[0] if block.strip() else ""
        if re.search(r"(read|write) of size", block, re.I) and not head.startswith("SUMMARY"):
            stacks.append([m.group(1) for m in map(FRAME.match, block.splitlines()) if m])
    return stacks


reports = open(sys.argv[1], errors="replace").read().split("WARNING: ThreadSanitizer: ")[1:]
ours = [report for report in reports if all(map(is_ours, accesses(report)))]
for report in ours:
    print("WARNING: ThreadSanitizer: " + report)
print(f"{len(reports)} reports of the thread sanitizer, {len(ours)} of this workspace")
sys.exit(bool(ours))
