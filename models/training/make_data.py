"""Make the data set: renders of three splits that share no design, label or chamber; called again, it goes on.

python models/training/make_data.py --out DATA
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

RENDER = Path(__file__).resolve().parent / "render.py"

# Rounds of 54 pictures, in this order: what judges a training is there before it.
PLAN = ("val=0:2", "test=0:3", "train=0:34", "test=3:10")


def render_command(blender: str, out: Path, plan: list[str], share: str, more: list[str]) -> list[str]:
    """One Blender that renders its share of the plan."""
    command = [blender, "-b", "--python-exit-code", "1", "-P", str(RENDER), "--", "--out", str(out), "--share", share]
    return command + [word for rounds in plan for word in ("--plan", rounds)] + more


def main() -> int:
    """Run the Blenders side by side, each on one core; their output goes to DATA/render-K.log."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of the data set, outside the repository")
    parser.add_argument("--processes", type=int, default=2, help="Blenders side by side, of one thread each")
    parser.add_argument("--plan", action="append", metavar="SPLIT=FIRST:LAST", help=f"default {' '.join(PLAN)}")
    parser.add_argument("--until", metavar="HH:MM", help="start no picture after this time of day")
    parser.add_argument("--blender", default="blender", help="Blender 3.4")
    args = parser.parse_args()
    blender = shutil.which(args.blender)
    if blender is None:
        parser.error(f"{args.blender} is not installed: apt-get install blender python3-numpy")
    # Blender takes the first python3 on the path for its own, and a virtual environment's is the wrong one.
    environment = {**os.environ, "PATH": os.defpath}
    args.out.mkdir(parents=True, exist_ok=True)
    more = ["--until", args.until] if args.until else []
    running: list[subprocess.Popen[bytes]] = []
    try:
        for number in range(args.processes):
            command = render_command(blender, args.out, args.plan or list(PLAN), f"{number}/{args.processes}", more)
            with (args.out / f"render-{number}.log").open("ab") as log:
                running.append(subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=environment))
        codes = [process.wait() for process in running]
    finally:
        for process in running:
            if process.poll() is None:
                process.terminate()
                process.wait()
    for number, code in enumerate(codes):
        if code:
            print(f"Blender {number} ended with {code}: see {args.out / f'render-{number}.log'}", file=sys.stderr)
    return 1 if any(codes) else 0


if __name__ == "__main__":
    sys.exit(main())
