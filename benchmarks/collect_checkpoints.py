"""Copy one seed's snapshots and one small GradNet of a run folder to ``checkpoints/``.

    python benchmarks/collect_checkpoints.py runs/digits digits --gradnet-level 0.7

writes ``checkpoints/digits/`` and its entries in ``checkpoints/manifest.json``.
"""

import argparse
import shutil
from dataclasses import replace
from pathlib import Path

from gradnet.checkpoints.snapshots import list_snapshots, load_snapshot, save_snapshot
from gradnet.core.files import read_json, sha256, write_json
from gradnet.experiments.results import read_rows

ROOT = Path(__file__).parents[1] / "checkpoints"


def main() -> None:
    """Copy, and describe what was copied."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("run", type=Path, help="the run folder")
    parser.add_argument("name", help="the folder below checkpoints/")
    parser.add_argument("--data", help="what the data are called; default: the name")
    parser.add_argument("--command", required=True, help="the command of the run")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--gradnet-level", type=float, required=True)
    given = parser.parse_args()
    data = given.data or given.name
    results = {
        (row["level"], row["method"]): row
        for row in read_rows(given.run)
        if row["seed"] == given.seed
    }
    folder = ROOT / given.name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    common = {
        "data": data,
        "seed": given.seed,
        "command": given.command,
    }
    entries = {}
    for level, path in list_snapshots(
        given.run / "snapshots" / f"seed-{given.seed}"
    ).items():
        copy = folder / path.name
        snapshot = load_snapshot(path)
        save_snapshot(copy, snapshot.model, replace(snapshot.info, data=data))
        entries[copy] = {
            "kind": "base network",
            "model": snapshot.info.model,
            "level": level,
            "test_accuracy": results[level, "base"]["test_accuracy"],
        }
    copy = folder / f"gradnet-{given.gradnet_level:g}.safetensors"
    relative = f"seed-{given.seed}/level-{given.gradnet_level:g}/default.safetensors"
    shutil.copyfile(given.run / "gradnets" / relative, copy)
    entries[copy] = {
        "kind": "GradNet, default recipe",
        "base": f"{given.name}/level-{given.gradnet_level:g}.safetensors",
        "level": given.gradnet_level,
        "test_accuracy": results[given.gradnet_level, "default"]["test_accuracy"],
    }
    manifest_path = ROOT / "manifest.json"
    manifest = read_json(manifest_path) if manifest_path.exists() else {}
    kept = {k: v for k, v in manifest.items() if not k.startswith(f"{given.name}/")}
    for path, about in entries.items():
        name = str(path.relative_to(ROOT))
        kept[name] = {"sha256": sha256(path), **about, **common}
    write_json(manifest_path, dict(sorted(kept.items())))
    print(
        f"{len(entries)} files, {sum(p.stat().st_size for p in entries) / 1e6:.1f} MB"
    )


if __name__ == "__main__":
    main()
