"""Kill a training run with SIGKILL at random moments, resume it, and compare with the unbroken run bit for bit.

    python tests/engine/train/kill_and_resume.py CONFIG --trials 20

Each trial kills the run several times, at a random instant or inside a random file operation, which may leave half a
file, then lets it end. The process imports Paddle once and never computes; each run is a fork of it, so a trial takes
seconds.
"""

import argparse
import os
import random
import shutil
import signal
import sys
import time
from pathlib import Path

import numpy as np
from faults import watched

from ppcls_ext.config import load_config
from ppcls_ext.engine.train import checkpoint
from ppcls_ext.engine.train.trainer import train


def run(config: Path, output_dir: Path, workers: int, after: float = 0.0, at_call: int = 0) -> int:
    """Train in a fork, resuming if there is something to resume.

    Args:
        after: kill it after so many seconds; 0: never.
        at_call: let it be killed inside its so-many-th file operation; 0: never.

    Returns:
        The exit code, minus the signal's number if it was killed.
    """
    child = os.fork()
    if child == 0:
        os.setsid()
        sink = os.open(os.devnull, os.O_WRONLY)
        os.dup2(sink, 1)
        overrides = [f"Global.output_dir={output_dir}", f"DataLoader.Train.loader.num_workers={workers}"]
        if any(output_dir.glob("latest*.manifest.json")):
            overrides.append(f"Global.checkpoints={output_dir / 'latest'}")
        try:
            cfg = load_config(config, overrides)
            with watched(at_call) as operations:
                train(cfg)
            output_dir.with_suffix(".operations").write_text(str(operations.count))
        except BaseException:  # noqa: BLE001 - a fork must not run on in its parent's code
            import traceback

            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    if after:
        time.sleep(after)
        try:
            os.kill(child, signal.SIGKILL)
        except ProcessLookupError:
            pass
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def final_state(output_dir: Path) -> dict:
    """Return every number of the last checkpoint, by name."""
    found = {}

    def collect(prefix, value):
        if isinstance(value, dict):
            for key, item in value.items():
                collect(f"{prefix}/{key}", item)
        else:
            found[prefix] = np.asarray(value)

    collect("", checkpoint.load_checkpoint(output_dir / "latest").parts)
    return found


def main() -> None:
    """Run the trials; exit with 1 and the first difference if there is one."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("config", type=Path)
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--kills", type=int, default=4, help="kills in a trial, at most")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, default=Path("output/kill_and_resume"))
    arguments = parser.parse_args()
    shutil.rmtree(arguments.folder, ignore_errors=True)
    rng = random.Random(arguments.seed)

    started = time.monotonic()
    if run(arguments.config, arguments.folder / "unbroken", workers=0) != 0:
        sys.exit("the unbroken run failed")
    duration = time.monotonic() - started
    expected = final_state(arguments.folder / "unbroken")
    operations = int((arguments.folder / "unbroken.operations").read_text())
    total_kills = 0
    for trial in range(arguments.trials):
        output_dir = arguments.folder / f"trial_{trial}"
        kills = 0
        while True:
            workers = rng.choice([0, 1])
            mode = rng.choice(["instant", "save"]) if kills < arguments.kills else "end"
            after = rng.uniform(0.05, duration) if mode == "instant" else 0.0
            code = run(
                arguments.config, output_dir, workers, after, rng.randint(1, operations) if mode == "save" else 0
            )
            if code == 0:
                break
            if code != -signal.SIGKILL:
                sys.exit(f"trial {trial}: the run failed with exit code {code}")
            kills += 1
        total_kills += kills
        found = final_state(output_dir)
        differing = [name for name in expected if not np.array_equal(expected[name], found.get(name))]
        if differing or set(found) != set(expected):
            sys.exit(f"trial {trial}: differs from the unbroken run in {differing[:5] or set(found) ^ set(expected)}")
        print(f"trial {trial}: {kills} kills, {len(found)} values equal bit for bit", flush=True)
        shutil.rmtree(output_dir)
    print(f"{arguments.trials} trials, {total_kills} kills, unbroken run {duration:.1f} s: all equal", flush=True)


if __name__ == "__main__":
    main()
