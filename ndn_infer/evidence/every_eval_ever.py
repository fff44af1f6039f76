"""A score in the schema of Every Eval Ever (version 0.3.0): one document, and a line for each item.

Owns: what of a score stands where in that schema. Pure. Must not know: files. What the schema has no field for (names,
digests, engine class) stands in its `additional_details`, whose values are texts.
"""

from __future__ import annotations

import hashlib
import json
import re
import uuid
from collections.abc import Sequence
from typing import Any, Final

from ndn_infer.evidence.score import ItemOutcome, Score
from ndn_infer.evidence.statistics import RESAMPLES
from ndn_infer.evidence.suite import Item, Suite

SCHEMA: Final = "0.3.0"


def paths_of(name: str, suite: Suite, score: Score) -> tuple[str, str]:
    """Where the document and the lines of its items lie in a store of that project: by benchmark, developer and model.
    The UUID (version 4 in form) is made of the name of the score's record, so that a score has one place."""
    number = uuid.UUID(bytes=hashlib.sha256(name.encode()).digest()[:16], version=4)
    parts = suite.name, _developer(score), score.alias.rpartition("/")[2]
    folder = "/".join(("data", *map(_safe, parts)))
    return f"{folder}/{number}.json", f"{folder}/{number}_samples.jsonl"


def _developer(score: Score) -> str:
    """What stands before the slash of a Hugging Face id."""
    return score.alias.rpartition("/")[0] or "unknown"


def _safe(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).lstrip(".") or "unknown"


def exported(score: Score, name: str, suite: Suite, items: Sequence[Item]) -> tuple[dict[str, Any], bytes]:
    """(the document, the lines of its items). `name` is that of the score's record, `items` those that it is of."""
    _, detail_file = paths_of(name, suite, score)
    ident = f"{suite.name}/{score.model[:16]}/{score.began_us // 1_000_000}"
    lines = b"".join(
        json.dumps(_line(ident, score, suite, item, one), ensure_ascii=False).encode() + b"\n"
        for item, one in zip(items, score.outcomes, strict=True)
    )
    document = {
        "schema_version": SCHEMA,
        "evaluation_id": ident,
        "evaluation_timestamp": str(score.began_us // 1_000_000),
        "retrieved_timestamp": str(score.ended_us // 1_000_000),
        "source_metadata": {
            "source_name": "ndn-infer", "source_type": "evaluation_run", "source_organization_name": "unknown",
            "evaluator_relationship": "other", "additional_details": {"score_record": name},
        },
        "eval_library": {"name": "ndn-infer", "version": score.software.rpartition(" ")[2] or "unknown"},
        "model_info": _model(score),
        "evaluation_results": [_result(ident, score, suite, items)],
        "detailed_evaluation_results": {
            "format": "jsonl", "file_path": detail_file, "hash_algorithm": "sha256",
            "checksum": hashlib.sha256(lines).hexdigest(), "total_rows": score.n,
        },
    }  # fmt: skip
    return document, lines


def _model(score: Score) -> dict[str, Any]:
    return {
        "name": score.alias, "id": score.alias, "developer": _developer(score),
        "inference_engine": {"name": "ndn-infer", "version": score.engine},
        "additional_details": {
            "deployment_type": "self_deployed", "model_availability": "open_weights", "model_digest": score.model,
            "engine_class": score.engine,
        },
    }  # fmt: skip


def _result(ident: str, score: Score, suite: Suite, items: Sequence[Item]) -> dict[str, Any]:
    interval, sampling = score.interval, suite.sampling
    uncertainty: dict[str, Any] = {
        "confidence_interval": {
            "lower": interval.low, "upper": interval.high, "confidence_level": interval.level, "method": interval.method
        },
        "num_samples": score.n,
    }  # fmt: skip
    if interval.method == "bootstrap":
        uncertainty["num_bootstrap_samples"] = RESAMPLES
    return {
        "evaluation_result_id": f"{ident}/score",
        "evaluation_name": suite.name,
        "source_data": {
            "dataset_name": suite.name, "source_type": "other",
            "additional_details": {"suite_digest": suite.digest, "suite_record": score.suite_name,
                                   "samples_number": str(len(items))},
        },
        "metric_config": {
            "metric_id": f"ndn-infer.{suite.scorer.id}", "metric_name": score.scorer, "metric_kind": "accuracy",
            "metric_unit": "proportion", "lower_is_better": False, "min_score": 0.0, "max_score": 1.0,
            "score_type": "binary" if suite.scorer.binary else "continuous",
        },
        "score_details": {"score": score.score, "uncertainty": uncertainty},
        "generation_config": {
            "generation_args": {"temperature": sampling.temperature, "top_p": sampling.top_p,
                                "top_k": float(sampling.top_k), "max_tokens": sampling.max_tokens},
            "additional_details": {"seed": str(sampling.seed), "system_prompt": suite.system},
        },
    }  # fmt: skip


def _line(ident: str, score: Score, suite: Suite, item: Item, one: ItemOutcome) -> dict[str, Any]:
    reference = list(item.targets)
    prompt, tokens = (sum(getattr(answer, part) for answer in one.answers) for part in ("prompt_tokens", "tokens"))
    return {
        "schema_version": SCHEMA,
        "evaluation_id": ident,
        "model_id": score.alias,
        "evaluation_name": suite.name,
        "evaluation_result_id": f"{ident}/score",
        "sample_id": item.id,
        "sample_hash": hashlib.sha256((item.prompt + "".join(reference)).encode()).hexdigest(),
        "interaction_type": "single_turn",
        "input": {"raw": item.prompt, "reference": reference, "choices": list(item.choices) or None},
        "output": {"raw": [one.text]},
        "messages": None,
        "answer_attribution": [
            {"turn_idx": 0, "source": "output.raw", "extracted_value": one.text, "extraction_method": score.scorer,
             "is_terminal": True}
        ],
        "evaluation": {"score": one.value, "is_correct": one.value > 0.5},
        "token_usage": {"input_tokens": prompt, "output_tokens": tokens, "total_tokens": prompt + tokens},
        "performance": {"latency_ms": 1000 * one.seconds},
        "error": one.error or None,
        "metadata": {f"answer_{place}": answer.name for place, answer in enumerate(one.answers)},
    }  # fmt: skip
