"""Rows of a made-up bench, shared by the tests of its page and of its Markdown twin."""

from typing import Any


def rows(**more: Any) -> list[dict[str, Any]]:
    def row(name: str, kind: str, k: int, level: float) -> dict[str, Any]:
        return {
            "protocol": "strict", "dataset": "made", "feedback": "implicit", "method": name,
            "kind": kind, "k": k, "n": 200, "ndcg@10": level, "ci95": [level - 0.01, level + 0.01],
            "better": name == "ours", "better_than_simple": name == "ours", "seeds": [0, 1],
            "chance": kind == "floor", "command": f"metarec bench x.yaml --learners {name}",
            "groups": {"gender=F": level, "gender=M": level}, **more,
        }  # fmt: skip

    return [
        row(name, kind, k, level)
        for name, kind, level in (
            ("random", "floor", 0.01), ("<ease>", "rival", 0.1), ("ours", "learner", 0.2)
        )
        for k in (0, 3)
    ]  # fmt: skip
