"""Load on `ivon-lora serve`: throughput and latency by number of clients, malformed requests, memory.

    python bench/serve_load.py --binary target/release/ivon-lora --adapter runs/sst2/adapter \
        --rows ../shared/data/sst2/validation.jsonl --out load.jsonl
    python bench/serve_load.py ... --malformed 100000 --minutes 60

Needs nothing but Python's own library. Each number of clients asks for `--seconds`, in turn, `--rounds` times; the
medians of the rounds are printed. Predictions ask for one row at the mean (`--samples 0`); texts ask for `--tokens`
tokens of the base, without a stop.
"""

import argparse
import http.client
import json
import os
import random
import statistics
import subprocess
import threading
import time


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", required=True)
    parser.add_argument("--adapter", required=True)
    parser.add_argument("--model")
    parser.add_argument("--rows", required=True, help="JSONL with rows of the adapter's task")
    parser.add_argument("--clients", default="1,8,32")
    parser.add_argument("--seconds", type=float, default=15)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--malformed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=0, help="of mixed load, with the memory at each minute")
    parser.add_argument("--flags", default="", help="more flags of serve, in one string")
    parser.add_argument("--out")
    return parser.parse_args()


class Server:
    def __init__(self, args):
        command = [args.binary, "serve", "--adapter", f"tried={args.adapter}", "--samples", "0", "--port", "0"]
        command += ["--model", args.model] if args.model else []
        command += args.flags.split()
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        for line in self.process.stderr:
            if "listening on" in line:
                self.port = int(line.rsplit(":", 1)[1])
                break
        else:
            raise SystemExit("the server did not start")
        threading.Thread(target=lambda: [None for _ in self.process.stderr], daemon=True).start()

    def memory(self):
        """Resident megabytes."""
        with open(f"/proc/{self.process.pid}/status") as status:
            found = next(line for line in status if line.startswith("VmRSS"))
        return int(found.split()[1]) / 1024

    def stop(self):
        self.process.terminate()
        return self.process.wait(timeout=60)


class Client:
    def __init__(self, port):
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=300)

    def post(self, path, body, kind="application/json"):
        data = body if isinstance(body, (bytes, str)) else json.dumps(body)
        self.connection.request("POST", path, data, {"Content-Type": kind})
        answer = self.connection.getresponse()
        return answer.status, answer.read()


def load(server, clients, seconds, request):
    """Requests a second, and the latencies in milliseconds; `request(number)` is path and body."""
    latencies, numbers, lock = [], iter(range(10**9)), threading.Lock()
    end = time.monotonic() + seconds

    def ask():
        client = Client(server.port)
        while time.monotonic() < end:
            with lock:
                number = next(numbers)
            begun = time.monotonic()
            status, answer = client.post(*request(number))
            if status != 200:
                raise SystemExit(f"{status}: {answer[:300]}")
            with lock:
                latencies.append(1000 * (time.monotonic() - begun))

    begun = time.monotonic()
    threads = [threading.Thread(target=ask) for _ in range(clients)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    return len(latencies) / (time.monotonic() - begun), sorted(latencies)


def percentile(values, share):
    return values[min(len(values) - 1, int(share * len(values)))]


def measure(args, server, requests):
    lines = []
    for what, (request, unit, each) in requests.items():
        found = {}
        for _ in range(args.rounds):
            for clients in map(int, args.clients.split(",")):
                rate, latencies = load(server, clients, args.seconds, request)
                found.setdefault(clients, []).append((rate * each, percentile(latencies, 0.5), percentile(latencies, 0.99)))
        for clients, rounds in found.items():
            rate, half, most = (statistics.median(column) for column in zip(*rounds))
            lines.append({"what": what, "clients": clients, unit: round(rate, 2), "p50_ms": round(half, 1), "p99_ms": round(most, 1), "rounds": len(rounds)})
            print(json.dumps(lines[-1]), flush=True)
    return lines


def malformed(server, count, rows):
    """Sends requests that are wrong in many ways; returns how many had each status."""
    numbers = random.Random(0)
    good = json.dumps({"model": "tried", "rows": [rows[0]]})
    statuses = {}
    client = Client(server.port)
    for _ in range(count):
        kind = numbers.randrange(6)
        path = numbers.choice(["/v1/predict", "/v1/chat/completions", "/v1/completions"])
        if kind == 0:
            body = good[: numbers.randrange(len(good))]
        elif kind == 1:
            body = bytes(numbers.randrange(256) for _ in range(numbers.randrange(200)))
        elif kind == 2:
            body = "[" * numbers.randrange(1, 5000)
        elif kind == 3:
            body = json.dumps({numbers.choice(["model", "rows", "prompt", "messages", "n", "stop", "top_p", "draws"]): numbers.choice([None, -1, 1e300, "x", [], {}, [[]], "\u0000" * 9, 2**70, True])})
        elif kind == 4:
            body = json.dumps({"rows": [{}] * 400})
        else:
            body = json.dumps({"prompt": "a", "max_tokens": 10**9, "logprobs": -1})
        try:
            status, _ = client.post(path, body)
        except (http.client.HTTPException, ConnectionError):
            status, client = "closed", Client(server.port)
        statuses[status] = statuses.get(status, 0) + 1
    return statuses


def main():
    args = arguments()
    with open(args.rows) as lines:
        rows = [json.loads(line) for line in lines]
    for row in rows:
        row.pop("label", None)
    server = Server(args)
    predict = lambda number: ("/v1/predict", {"model": "tried", "rows": [rows[number % len(rows)]]})
    write = lambda number: ("/v1/completions", {"model": "base", "prompt": f"Number {number % 97} of the story:", "max_tokens": args.tokens, "seed": number})
    requests = {"predictions at the mean": (predict, "rows_per_second", 1), "texts": (write, "tokens_per_second", args.tokens)}
    results = []
    if args.rounds:
        results += measure(args, server, requests)
    if args.malformed:
        # Buffers grow to what the largest batch needs once.
        load(server, 16, 20, lambda number: write(number) if number % 4 == 0 else predict(number))
        before = server.memory()
        statuses = malformed(server, args.malformed, rows)
        results.append({"what": "malformed requests", "count": args.malformed, "statuses": statuses, "mb_before": round(before, 1), "mb_after": round(server.memory(), 1)})
        print(json.dumps(results[-1]), flush=True)
    if args.minutes:
        mixed = lambda number: write(number) if number % 8 == 0 else predict(number)
        memory = []
        for _ in range(int(args.minutes)):
            load(server, 16, 60, mixed)
            memory.append(round(server.memory(), 1))
            print("memory", memory[-1], flush=True)
        results.append({"what": "mixed load of 16 clients", "minutes": args.minutes, "mb_at_each_minute": memory})
    code = server.stop()
    print("exit code", code)
    if args.out:
        temporary = args.out + ".new"
        with open(temporary, "w") as out:
            for line in results:
                out.write(json.dumps({"binary": os.path.basename(args.binary), "time": time.strftime("%Y-%m-%d"), **line}) + "\n")
        os.replace(temporary, args.out)


main()
