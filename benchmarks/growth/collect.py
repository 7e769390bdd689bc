"""Copy finished growth studies into the repository, and their tables into the page.

    python benchmarks/growth/collect.py RUNS

``RUNS`` holds a folder a study, as the scripts beside this one write them. Rows, tables
and pictures go to ``benchmarks/results/growth/``; checkpoints and networks stay. Tables
replace what stands between ``<!-- STUDY -->`` and ``<!-- end -->`` there; what it took
to reach accuracies, between ``<!-- STUDY reached -->`` and ``<!-- end -->``.
"""

import argparse
import shutil
from pathlib import Path

from gradnet.core.files import write_text
from gradnet.experiments.reports import write_growth_report

HERE = Path(__file__).parent
RESULTS = HERE.parent / "results" / "growth"
KEPT = ("table.csv", "table.md", "reached.md", "metrics.jsonl", "trials.csv")


def collect(study: Path, page: str) -> str:
    """Copy rows, logs and the pictures that the page shows; return the table."""
    if (study / "results").is_dir():
        write_growth_report(study)
    target = RESULTS / study.name
    for path in study.rglob("*"):
        relative = path.relative_to(study)
        is_row = relative.parts[0] == "results" and path.suffix == ".json"
        is_shown = f"results/growth/{study.name}/{relative}" in page
        if path.is_file() and (is_row or is_shown or path.name in KEPT):
            (target / relative).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target / relative)
    if (study / "table.md").exists():
        return "\n".join(rows_of(study / "table.md"))
    tables = {
        part.name: rows_of(part / "table.md") for part in sorted(study.glob("*/"))
    }
    titles: dict[str, None] = {}
    for table in tables.values():
        titles |= dict.fromkeys(cells(table[0]))
    lines = [f"| study | {' | '.join(titles)} |", "|---|" + "---|" * len(titles)]
    for name, table in tables.items():
        values = dict(zip(cells(table[0]), cells(table[2]), strict=True))
        lines.append(f"| {name} | {' | '.join(values.get(t, '') for t in titles)} |")
    return "\n".join(lines)


def replaced(page: str, name: str, table: str) -> str:
    """The page with a table behind its mark, where it has one."""
    before, mark, rest = page.partition(f"<!-- {name} -->\n")
    if not mark:
        return page
    return f"{before}{mark}\n{table}\n\n{rest[rest.index('<!-- end -->') :]}"


def rows_of(path: Path) -> list[str]:
    """The lines of a Markdown table."""
    return [line for line in path.read_text().splitlines() if line.startswith("|")]


def cells(line: str) -> list[str]:
    """What stands between the bars of a line."""
    return [cell.strip() for cell in line.strip("|").split("|")]


def main() -> None:
    """Collect all studies that are there."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("runs", type=Path, help="the folder of the studies")
    page = (HERE / "README.md").read_text()
    for study in sorted(parser.parse_args().runs.glob("[a-z]*/")):
        page = replaced(page, study.name, collect(study, page))
        reached = study / "reached.md"
        if reached.exists():
            table = "\n".join(rows_of(reached))
            page = replaced(page, f"{study.name} reached", table)
        print(study.name)
    write_text(HERE / "README.md", page)


if __name__ == "__main__":
    main()
