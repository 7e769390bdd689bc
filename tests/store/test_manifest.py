"""A plan cuts samples into shards, and tells in which field another one differs."""

import json
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from store_cases import make_plan

from gradnet.errors import GradnetError
from gradnet.store.manifest import StorePlan, readable_bytes

BASE: dict[str, Any] = {
    "num_samples": 1000,
    "labels_per_sample": 10,
    "num_logits": 7,
    "blocks": {"conv": 1000, "linear": 24},
}


def test_bytes_are_counted_by_hand() -> None:
    plan = StorePlan(**BASE, dtype=torch.bfloat16, shard_bytes=1_000_000)
    assert plan.row_bytes == 2 * 1024 + 3 * 8 + 4 * 7
    assert plan.num_rows == 10_000
    assert plan.total_bytes == 10_000 * 2100
    assert plan.samples_per_shard == 1_000_000 // 21_000
    assert plan.num_shards == 22
    assert plan.shard_samples(21) == range(987, 1000)
    assert plan.describe() == (
        "1,000 samples x 10 labels x 1,024 coordinates x 2 bytes = 20.5 MB; "
        "with labels and logits 21 MB in 22 shards"
    )


@given(
    samples=st.integers(1, 200), labels=st.integers(1, 5), shard=st.integers(1, 9999)
)
def test_shards_hold_each_sample_once(samples: int, labels: int, shard: int) -> None:
    plan = make_plan(num_samples=samples, labels_per_sample=labels, shard_bytes=shard)
    ranges = [plan.shard_samples(n) for n in range(plan.num_shards)]
    assert [sample for part in ranges for sample in part] == list(range(samples))
    assert sum(map(plan.shard_rows, range(plan.num_shards))) == plan.num_rows
    for number, part in enumerate(ranges):
        assert len(part) == 1 or plan.shard_rows(number) * plan.row_bytes <= shard


@given(st.sampled_from([torch.float32, torch.bfloat16, torch.float16]))
def test_manifest_round_trip(dtype: torch.dtype) -> None:
    plan = make_plan(dtype=dtype, fingerprint={"shape": (3, 4), "seed": None, "1": 2.5})
    again = StorePlan.from_manifest(json.dumps(plan.manifest).encode(), "there")
    assert again.manifest == plan.manifest
    assert again.digest == plan.digest
    assert again.dtype == dtype and again.tensors == plan.tensors
    plan.check_compatible(again, "there")


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"num_samples": 24}, "num_samples was 23, now 24"),
        ({"labels_per_sample": 3}, "labels_per_sample was 2, now 3"),
        ({"num_logits": 4}, "num_logits was 3, now 4"),
        ({"blocks": {"conv": 6, "": 3}}, "blocks.conv was 5, now 6"),
        ({"blocks": {"conv": 5}}, r"blocks\. was 3, now None"),
        (
            {"blocks": {"conv": 5, "": 3, "new": 1}},
            "blocks.new was None, now 1",
        ),
        ({"dtype": torch.float16}, "dtype was 'float32', now 'float16'"),
        ({"shard_bytes": 77}, "shard_bytes was .*, now 77"),
        (
            {"fingerprint": {"data": {"name": "x", "order": [0, 2]}, "weights": "abc"}},
            "fingerprint.data.name was 'made up', now 'x'",
        ),
        (
            {
                "fingerprint": {
                    "weights": "abc",
                    "data": {"name": "made up", "order": [0, 2]},
                }
            },
            "fingerprint.data.order was \\[0, 1\\], now \\[0, 2\\]",
        ),
        (
            {"fingerprint": {"weights": "abc", "data": 1}},
            r"fingerprint.data was \{'name': 'made up'.*\}, now 1",
        ),
        ({"fingerprint": {}}, "fingerprint.weights was 'abc', now None"),
    ],
)
def test_first_field_that_differs_is_named(
    changes: dict[str, Any], message: str
) -> None:
    stored = make_plan()
    shard_bytes = {"shard_bytes": stored.shard_bytes}
    other = make_plan(**shard_bytes | changes)
    assert other.digest != stored.digest
    with pytest.raises(
        GradnetError, match=f"here was made with other settings: {message};"
    ):
        other.check_compatible(stored, "here")


@given(st.permutations(["a", "b", "c"]))
def test_order_of_names_does_not_matter(names: list[str]) -> None:
    one = make_plan(fingerprint={name: name for name in "abc"})
    other = make_plan(fingerprint={name: name for name in names})
    other.check_compatible(one, "here")
    assert one.digest == other.digest


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"num_samples": 0}, "num_samples is 0"),
        ({"labels_per_sample": 0}, "labels_per_sample is 0"),
        ({"num_logits": -1}, "num_logits is -1"),
        ({"blocks": {}}, "at least one block"),
        ({"blocks": {"conv": 0}}, "block conv is 0"),
        ({"dtype": torch.float64}, "cannot hold torch.float64"),
        ({"shard_bytes": 0}, "shard_bytes is 0"),
        ({"shard_bytes": 512_000_001}, "shard_bytes is 512000001"),
        ({"fingerprint": {"weights": torch.float32}}, "not plain JSON"),
        ({"fingerprint": {"decay": float("nan")}}, "not plain JSON"),
    ],
)
def test_impossible_plans_are_told(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(GradnetError, match=message):
        StorePlan(**BASE | changes)


@pytest.mark.parametrize(
    "manifest, message",
    [
        (b"", "no readable manifest.json"),
        (b"[]", "no readable manifest.json"),
        (b'{"version": 1}', "no readable manifest.json"),
        (b'{"version": 1, "dtype": "int8"}', "no readable manifest.json"),
        (b'{"version": 9, "what": "ever"}', "version 9; this gradnet reads 1"),
    ],
)
def test_other_manifests_are_told(manifest: bytes, message: str) -> None:
    with pytest.raises(GradnetError, match=f"there .*{message}"):
        StorePlan.from_manifest(manifest, "there")


@pytest.mark.parametrize(
    "count, text",
    [(999, "999 bytes"), (1234, "1.23 kB"), (999_700, "1 MB"), (2e15, "2,000 TB")],
)
def test_readable_bytes(count: float, text: str) -> None:
    assert readable_bytes(count) == text
