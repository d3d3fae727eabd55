"""What is counted for `/metrics`: numbers only, never a word of a prompt."""

from collections.abc import Callable, Iterable, Mapping

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from luthier.serve.request import EngineStats

FIRST_TOKEN_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
TOKENS_PER_S = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)


METHODS = ("GET", "POST", "PUT", "DELETE")
"""What clients may write in a request's first line has no end, a label's values must."""


class Measures:
    """One service's counters; what an engine or the queue knows itself is asked when someone looks."""

    def __init__(
        self,
        engine_stats: Callable[[], EngineStats | None] = lambda: None,
        jobs_by_status: Callable[[], Mapping[str, int]] = dict,
    ) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "luthier_requests", "Requests answered", ("method", "route", "status"), registry=self._registry
        )
        self._first_token = Histogram(
            "luthier_first_token_seconds",
            "From asking to the first word",
            registry=self._registry,
            buckets=FIRST_TOKEN_S,
        )
        self._speed = Histogram(
            "luthier_tokens_per_second", "Speed of one answer", registry=self._registry, buckets=TOKENS_PER_S
        )
        self._registry.register(_Asked(engine_stats, jobs_by_status))

    def count_request(self, method: str, route: str, status: int) -> None:
        """Count an answered request under its route's pattern."""
        self._requests.labels(method if method in METHODS else "other", route, str(status)).inc()

    def count_answer(self, *, first_token_s: float, rest_s: float, tokens: int) -> None:
        """Count a whole answer: time to its first token, and the speed of those after it."""
        self._first_token.observe(first_token_s)
        if tokens > 1 and rest_s > 0:
            self._speed.observe((tokens - 1) / rest_s)

    def text(self) -> bytes:
        """Return all numbers in Prometheus' text format."""
        return generate_latest(self._registry)


class _Asked(Collector):
    def __init__(
        self, engine_stats: Callable[[], EngineStats | None], jobs_by_status: Callable[[], Mapping[str, int]]
    ) -> None:
        self._engine_stats = engine_stats
        self._jobs_by_status = jobs_by_status

    def describe(self) -> Iterable[Metric]:
        """Return nothing, so that registering asks no one."""
        return []

    def collect(self) -> Iterable[Metric]:
        """Yield the present numbers of engine and queue."""
        jobs = GaugeMetricFamily("luthier_jobs", "Fine-tuning jobs", labels=("status",))
        for status, count in self._jobs_by_status().items():
            jobs.add_metric((status,), count)
        yield jobs
        stats = self._engine_stats()
        if stats is None:
            return
        yield GaugeMetricFamily("luthier_rows_running", "Answers under way", value=stats.running)
        yield GaugeMetricFamily("luthier_rows_waiting", "Answers in line", value=stats.waiting)
        yield GaugeMetricFamily("luthier_adapters", "Adapters in memory", value=stats.adapters)
        yield GaugeMetricFamily("luthier_adapter_bytes", "Memory of the adapters", value=stats.adapter_bytes)
        yield CounterMetricFamily("luthier_prompt_tokens", "Prompt tokens", value=stats.prompt_tokens)
        yield CounterMetricFamily(
            "luthier_cached_prompt_tokens", "Prompt tokens from the prefix cache", value=stats.cached_prompt_tokens
        )
        yield CounterMetricFamily("luthier_answer_tokens", "Tokens of answers", value=stats.answer_tokens)
        yield CounterMetricFamily("luthier_engine_steps", "Steps of the engine", value=stats.steps)
