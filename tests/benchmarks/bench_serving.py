"""Endpoints beside other servers: one sentence a request, the same model, client and machine, in interleaved rounds.

    python -m tests.benchmarks serving                       every server that is installed, 5 rounds
    python -m tests.benchmarks serving --rounds 9 --seconds 6 --server torch --server litserve-bf16

A server that is not being asked is stopped by a signal, so that it costs nothing. Ratios are medians over the rounds,
of requests answered in a second; p99 is of all rounds. `ready` is from the start of the process to its first answer. At
the end: what a request costs beyond the model, beside a bare server of the same library, and what the same model does
offline at its best batch. The peers' packages are in the environment that `make bench-serving` builds.
"""

import argparse
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psutil

from tests.benchmarks.clients import ask

_PEERS = {"litserve-bf16": "litserve", "litserve-fp32": "litserve", "fastapi": "fastapi", "mlflow": "mlflow"}
_MODULES = {"fastapi": "serving_peers", "mlflow": "mlflow_peer"}
_ENGINES = {"torch": "torch", "onnx": "onnxruntime", "openvino": "openvino"}
_LEVELS = (1, 8, 32)


@dataclass
class Server:
    """A server that runs: how to ask it, and what was measured."""

    name: str
    port: int
    process: psutil.Process
    path: str
    key: str
    token: str
    ready: float
    rates: dict[int, list[float]] = field(default_factory=lambda: {c: [] for c in _LEVELS})
    latencies: dict[int, list[float]] = field(default_factory=lambda: {c: [] for c in _LEVELS})

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the process and its children."""
        for process in [self.process, *self.process.children(recursive=True)]:
            process.send_signal(number)

    def memory(self) -> float:
        """Return resident megabytes, shared pages counted once where the system tells."""
        found = [self.process, *self.process.children(recursive=True)]
        return sum(getattr(p.memory_full_info(), "pss", p.memory_info().rss) for p in found) / 2**20


def main(argv: list[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks serving")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4.0, help="a server, level and round")
    parser.add_argument("--threads", type=int, default=0, help="of our engines; as many as are useful without it")
    parser.add_argument("--server", action="append", choices=[*_ENGINES, *_PEERS])
    options = parser.parse_args(argv or [])
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        model, texts = _model(root), _sentences()
        servers: list[Server] = []
        try:
            for name in options.server or [*_ENGINES, *_PEERS]:
                if find_spec((_ENGINES | _PEERS)[name]) is None:
                    print(f"({name} is not installed here: left out)")
                    continue
                servers.append(_start(name, root, model, options.threads or None))
                servers[-1].signal(signal.SIGSTOP)
            for turn in range(options.rounds):
                for server in servers[:: -1 if turn % 2 else 1]:
                    _round(server, texts, options.seconds)
            _print(servers)
            for server in servers:
                if server.name in _ENGINES:
                    _overhead(server, texts)
        finally:
            for server in servers:
                server.signal(signal.SIGCONT)
                server.signal(signal.SIGTERM)
        _offline(model, texts)


def _model(root: Path) -> Path:
    from sft_magics.core.runtime.fetching import fetch
    from sft_magics.engine import tasks

    folder = root / "model"
    start = {"kind": "folder", "path": str(fetch("minilm"))}
    tasks.find("text-classification").load(start, ["negative", "positive"], {"seed": 0}).save(folder)
    return folder


def _export(engine: str, model: Path, target: Path) -> None:
    """Export the model once, and choose the precision of an engine as a deploy does: the quickest that agrees."""
    from sft_magics.engine.inference import onnx_export
    from sft_magics.engine.jobs import worker
    from sft_magics.serving.engines import agreement

    if not target.exists():
        onnx_export.export(model, target)
    texts = _sentences()[:200]
    verdict = agreement.judge(target, engine, texts, worker.reference(model, texts))
    print(f"({engine} computes in {verdict.precision}, and agrees with torch: {verdict.agrees})")


def _sentences() -> list[str]:
    from sft_magics.datasets.sources import load

    return [str(t) for t in load("sample:reviews").frame["text"][:2000]]


def _start(name: str, root: Path, model: Path, threads: int | None) -> Server:
    began = time.perf_counter()
    if name in _ENGINES:
        from sft_magics.core.workspace import Workspace
        from sft_magics.serving.client import lifecycle

        ws = Workspace(root / "workspace").prepare()
        if name != "torch":
            _export(name, model, root / "exported")
        began = time.perf_counter()
        found = lifecycle.start(
            ws, name=name, model="m", ref="m:1", version="m:1", folder=model if name == "torch" else root / "exported",
            labels=["negative", "positive"], threads=threads, engine=name,
        )  # fmt: skip
        pid = json.loads((Path(found.folder) / "state.json").read_text())["pid"]
        token = Path(found.token_file).read_text().strip()
        server = Server(name, found.port, psutil.Process(pid), "/predict", "inputs", token, 0.0)
    else:
        port = _free_port()
        module = _MODULES.get(name, "litserve_peer")
        line = [sys.executable, "-m", f"tests.benchmarks.{module}", name, str(port), str(model)]
        process = subprocess.Popen(line, stdout=subprocess.DEVNULL, env=_environment())
        path, key = ("/invocations", "inputs") if name == "mlflow" else ("/predict", "text")
        server = Server(name, port, psutil.Process(process.pid), path, key, "", 0.0)
    _await(server)
    server.ready = time.perf_counter() - began
    return server


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    return port


def _await(server: Server) -> None:
    """Wait for its first answer."""
    began = time.perf_counter()
    while True:
        try:
            _ask(server, ["a film"], 1, 0.0)
        except (OSError, AssertionError):
            if time.perf_counter() - began > 180:
                raise
            time.sleep(0.05)
        else:
            return


def _environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "2", "TOKENIZERS_PARALLELISM": "false", "DO_NOT_TRACK": "true"}


def _round(server: Server, texts: list[str], seconds: float) -> None:
    server.signal(signal.SIGCONT)
    _ask(server, texts, 8, 0.5)
    for level in _LEVELS:
        began = time.perf_counter()
        found = _ask(server, texts, level, seconds)
        server.rates[level].append(len(found) / (time.perf_counter() - began))
        server.latencies[level] += found
    server.signal(signal.SIGSTOP)


def _ask(server: Server, texts: list[str], clients: int, seconds: float) -> list[float]:
    """Ask from so many connections at once; return milliseconds."""
    token = f"Authorization: Bearer {server.token}\r\n" if server.token else ""
    requests = []
    for text in texts:
        body = json.dumps({server.key: [text] if server.name == "mlflow" else text}).encode()
        head = f"POST {server.path} HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\n{token}"
        head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        requests.append(head.encode() + body)
    return ask(server.port, requests, clients, seconds)


def _print(servers: list[Server]) -> None:
    for server in servers:
        server.signal(signal.SIGCONT)
        rates = ", ".join(f"c={c} {statistics.median(r):.0f}/s" for c, r in server.rates.items())
        late = ", ".join(f"{_p99(ms):.0f}" for ms in server.latencies.values())
        print(
            f"{server.name}: {rates}; p99 ms {late}; ready {server.ready:.1f} s; {server.memory():.0f} MiB", flush=True
        )
    for ours in (s for s in servers if s.name in _ENGINES):
        for peer in (s for s in servers if s.name in _PEERS):
            parts = []
            for level in _LEVELS:
                ratios = sorted(a / b for a, b in zip(ours.rates[level], peer.rates[level], strict=True))
                parts.append(f"c={level} {statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})")
            print(f"  {ours.name} / {peer.name}: {', '.join(parts)}")


def _p99(ms: list[float]) -> float:
    return sorted(ms)[min(len(ms) - 1, len(ms) * 99 // 100)]


def _overhead(server: Server, texts: list[str]) -> None:
    """Print what a request costs beyond the model and its tokenizer, in milliseconds of processor, and HTTP alone."""
    server.signal(signal.SIGCONT)
    for level in (_LEVELS[0], _LEVELS[-1]):
        parts, pause = _processor(server, texts, level)
        shown = ", ".join(f"{name} {ms:.3f}" for name, ms in parts.items())
        bare = _bare(texts, level, pause)
        print(
            f"{server.name}, c={level}: {sum(parts.values()):.3f} ms of processor a request beyond the model ({shown});"
            f" a bare server {bare:.3f}",
            flush=True,
        )
    server.signal(signal.SIGSTOP)


def _processor(server: Server, texts: list[str], clients: int) -> tuple[dict[str, float], float]:
    """Return the milliseconds of processor of a request's parts, and the seconds that it took."""
    _ask(server, texts, clients, 0.5)
    before = _stats(server)["processor_s"]
    found = _ask(server, texts, clients, 4.0)
    after = _stats(server)["processor_s"]
    parts = {name: (after[name] - before[name]) * 1e3 / len(found) for name in after}
    return parts, statistics.median(found) / 1e3


def _bare(texts: list[str], clients: int, pause: float) -> float:
    """Return the milliseconds of processor that a request costs which is answered after a pause, and nothing else."""
    port = _free_port()
    line = [sys.executable, "-m", "tests.benchmarks.bare_peer", str(port), str(pause)]
    with subprocess.Popen(line, stdout=subprocess.DEVNULL) as process:
        try:
            server = Server("bare", port, psutil.Process(process.pid), "/predict", "inputs", "", 0.0)
            _await(server)
            parts, _ = _processor(server, texts, clients)
        finally:
            process.kill()
    return sum(parts.values())


def _stats(server: Server) -> dict[str, Any]:
    import http.client

    connection = http.client.HTTPConnection("127.0.0.1", server.port)
    connection.request("GET", "/stats", headers={"Authorization": f"Bearer {server.token}"})
    found: dict[str, Any] = json.loads(connection.getresponse().read())
    connection.close()
    return found


def _offline(model: Path, texts: list[str]) -> None:
    """Print the best rate of the same model without a server."""
    script = (
        "import sys, time, json\nfrom pathlib import Path\n"
        "from sft_magics.engine.inference.predictor import Predictor\n"
        "p = Predictor(Path(sys.argv[1]), threads=2)\ntexts = json.loads(sys.stdin.read())\np.scores(texts)\nbest = 0\n"
        "for _ in range(5):\n    t = time.perf_counter(); p.scores(texts); "
        "best = max(best, len(texts) / (time.perf_counter() - t))\nprint(round(best))"
    )
    from sft_magics.engine.runtime import launchers

    environment = {**os.environ, **launchers.environment()}
    line = [sys.executable, "-c", script, str(model)]
    done = subprocess.run(line, input=json.dumps(texts), capture_output=True, text=True, check=True, env=environment)
    print(f"offline, torch, all sentences at once: {done.stdout.strip()}/s")
