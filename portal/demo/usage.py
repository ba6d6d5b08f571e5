"""The usage of the demo's accounts: services, models and quantities."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Habit:
    """A pattern of usage: how often, of what, and the measures of each call."""

    weight: int
    service: str
    source: str
    model: str
    calls: tuple[int, int]
    quantities: Mapping[str, tuple[int, int]]


_TOKENS = {"input-tokens": (8_000, 90_000), "output-tokens": (500, 9_000)}
HABITS = (
    Habit(22, "ai-inference", "support-assistant", "llama-3.3-70b-instruct", (3, 12), _TOKENS),
    Habit(14, "ai-inference", "document-search", "deepseek-v3", (2, 9), _TOKENS),
    Habit(10, "ai-inference", "code-review", "qwen2.5-coder-32b-instruct", (2, 8), _TOKENS),
    Habit(8, "ai-inference", "translation", "gemma-3-27b-it", (2, 10), _TOKENS),
    Habit(
        9,
        "ai-inference",
        "document-search",
        "multilingual-e5-large",
        (4, 15),
        {"input-tokens": (20_000, 400_000)},
    ),
    Habit(
        14,
        "model-hub",
        "model-registry",
        "",
        (1, 1),
        {"storage-time": (60, 60), "gigabytes": (240, 320)},
    ),
    Habit(
        12,
        "ai-notebook",
        "research-notebook",
        "a30",
        (1, 1),
        {
            "cpu-time": (1_800, 3_600),
            "cpus": (4, 4),
            "gpu-time": (600, 3_600),
            "gpus": (1, 1),
            "disk-time": (3_600, 3_600),
            "disk-gigabytes": (80, 80),
        },
    ),
    Habit(
        7,
        "gpu-container",
        "batch-embedding",
        "h100",
        (1, 1),
        {
            "gpu-time": (600, 3_600),
            "gpus": (1, 1),
            "disk-time": (3_600, 3_600),
            "disk-gigabytes": (120, 120),
        },
    ),
    Habit(
        4,
        "gpu-vm",
        "evaluation-vm",
        "h200",
        (1, 1),
        {
            "gpu-time": (1_800, 3_600),
            "gpus": (1, 1),
            "disk-time": (3_600, 3_600),
            "disk-gigabytes": (200, 200),
        },
    ),
    Habit(
        2,
        "model-fine-tuning",
        "assistant-tuning",
        "h100",
        (1, 1),
        {"gpu-time": (1_200, 5_400), "gpus": (1, 2)},
    ),
)
FINE_TUNING = HABITS[-1]
CONTAINER = next(habit for habit in HABITS if habit.service == "gpu-container")
WEEKDAYS = 5
