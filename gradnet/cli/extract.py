"""``gradnet extract``: the gradients of a network's images, into a store."""

import json
from dataclasses import dataclass

from gradnet.cli.options import NetworkSettings, load_network
from gradnet.core.constraints import PathText
from gradnet.core.progress import progress, readable_seconds
from gradnet.core.text import one_line
from gradnet.errors import GradnetError
from gradnet.store.extraction import Extraction, ExtractionSettings
from gradnet.store.manifest import readable_bytes
from gradnet.store.writer import survey, write_store


@dataclass(frozen=True, kw_only=True)
class Extract(ExtractionSettings, NetworkSettings):
    """Write the gradients of your own network, or of a snapshot, into a store.

    A stopped run continues when it is run again; gradnet inspect checks the result.

    Example:
        gradnet extract --model torchvision:resnet18 --data images.npz --out store

    Attributes:
        out: the store: a folder, or a URL that fsspec knows, such as s3://bucket/store.
        writer: i/n shares the work among n runs, of which this one is number i, from 1.
        plan_only: print the size of the store, and write nothing.
        no_verify: do not read finished shards again to compare their checksums.
    """

    out: PathText
    writer: PathText = "1/1"
    plan_only: bool = False
    no_verify: bool = False

    def run(self, config: str) -> None:
        """Print the size of the store, and write it."""
        shards = self._shards()
        network, inputs = load_network(self)
        arguments = json.dumps(self.model_args, sort_keys=True)
        name = f"{self.model or 'snapshot'} {arguments if self.model_args else ''}"
        extraction = Extraction(network, inputs, self, name.strip())
        plan = extraction.plan
        found = survey(self.out, plan, shards)
        print(plan.describe())
        for path in extraction.extractor.explain(extraction.probe()):
            if path.engine != "factored":
                reason = f"takes the general engine: {path.reason}"
                print(one_line(f"{path.parameter} {reason}"))
        free = found.free_bytes
        there = "" if free is None else f", {readable_bytes(free)} are free"
        seconds = (
            extraction.seconds_per_sample() * found.samples if found.samples else 0
        )
        left = readable_seconds(seconds)
        print(f"to write: {readable_bytes(found.bytes)}{there}; about {left}")
        if self.plan_only:
            return
        with progress("gradients", found.samples, "samples") as advance:
            write_store(
                self.out,
                plan,
                extraction.rows,
                shards=shards,
                on_progress=advance,
                verify=not self.no_verify,
            )
        print(self.out)

    def _shards(self) -> tuple[int, int]:
        try:
            index, count = map(int, self.writer.split("/"))
        except ValueError:
            index, count = 0, 0
        if not 1 <= index <= count:
            raise GradnetError(f"writer is {self.writer!r}; say 1/2 and 2/2, for two")
        return index - 1, count
