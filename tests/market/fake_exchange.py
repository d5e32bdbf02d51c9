"""An exchange on the loopback address that speaks Bybit's REST v5, with faults on demand.

Every value is a hash of its time, so the truth of any span is known without the server. Faults are
scripted by address and request number: `exchange.faults["market/kline"] = {3: "truncated"}`.
"""

import asyncio
import collections
import hashlib
import json
import threading

import numpy as np
from aiohttp import web

from densityjax.market import timeframes

HOUR = 3_600_000
NOW = 1_700_000_000_000 + 1_234_567  # 2023-11-14 22:33:54 UTC
MINUTES = {"D": "1d", "W": "1w", "M": "1M"}
HTML = "<html><body>502 Bad Gateway</body></html>"


def uniform(*words):
    """A number in [0, 1) that depends on the words alone."""
    return int.from_bytes(hashlib.blake2b(repr(words).encode(), digest_size=6).digest()) / 2**48


class FakeExchange:
    """The server's state: what there is, what time it is, and what is to go wrong."""

    def __init__(self):
        self.now = NOW
        self.listed = 0  # first open, ms
        self.delisted = 2**62
        self.holes = set()  # opens that do not exist
        self.revised = set()  # opens whose close has changed
        self.funding_times = list(
            range(NOW // (8 * HOUR) * 8 * HOUR, NOW - 500 * 24 * HOUR, -8 * HOUR)
        )
        self.faults = collections.defaultdict(dict)
        self.counts = collections.Counter()
        self.log = []
        self.delay_s = 0.0
        self.url = ""

    def bar(self, timeframe, time, symbol="BTCUSDT"):
        """Open, high, low, close, volume, turnover as the exchange writes them."""
        u = [uniform(symbol, timeframe, time, k) for k in range(5)]
        opening, close = 100 + 10 * u[0], 100 + 10 * u[1]
        if time in self.revised:
            close += 0.5
        high, low = max(opening, close) + u[2], min(opening, close) - u[3]
        return [f"{v:.2f}" for v in (opening, high, low, close, 1000 * u[4], 1e5 * u[4])]

    def opens(self, timeframe, start, stop):
        """Opens that exist in [start, stop)."""
        first = timeframes.floor_open(timeframe, self.listed)
        stop = min(stop, self.delisted, self.now + 1)
        found = timeframes.opens_between(timeframe, max(start, first), max(stop, start, first))
        return [int(t) for t in found if t not in self.holes]

    def truth(self, timeframe, start, stop=None, columns=6, symbol="BTCUSDT"):
        """Times and values of the closed bars in [start, stop)."""
        stop = min(stop or self.now, timeframes.floor_open(timeframe, self.now))
        times = self.opens(timeframe, start, stop)
        values = [[float(v) for v in self.bar(timeframe, t, symbol)[:columns]] for t in times]
        return np.array(times, np.int64), np.array(values).reshape(len(times), columns)

    def funding_rate(self, time):
        return f"{2e-4 * uniform('funding', time) - 1e-4:.8f}"

    def result(self, path, query):
        """The `result` of a reply, or (code, message) of an error."""
        if path == "market/time":
            return {"timeSecond": str(self.now // 1000), "timeNano": str(self.now * 10**6)}
        if path == "market/instruments-info":
            return self.instruments(query)
        if query.get("symbol") not in ("BTCUSDT", "BTCUSD", "OLDUSDT"):
            return 10001, "params error: symbol invalid"
        routes = {
            "market/kline": self.kline,
            "market/mark-price-kline": self.kline,
            "market/funding/history": self.funding,
            "market/open-interest": self.interest,
            "market/tickers": self.ticker,
            "market/orderbook": self.book,
        }
        return routes[path](query, path) if path in routes else (10001, "unknown path")

    def instruments(self, query):
        names = {"linear": ["BTCUSDT", "OLDUSDT"], "inverse": ["BTCUSD"], "spot": ["BTCUSDT"]}
        kind = query["category"]
        rows = [] if query.get("status") == "PreLaunch" else names.get(kind, [])
        records = [
            {
                "symbol": name,
                "contractType": f"{kind.capitalize()}Perpetual",
                "status": "Closed" if name == "OLDUSDT" else "Trading",
                "baseCoin": name[:3],
                "quoteCoin": name[3:],
                "settleCoin": name[:3] if kind == "inverse" else name[3:],
                "launchTime": "1585526400000",
                "deliveryTime": "0",
                "fundingInterval": 480,
                "leverageFilter": {"minLeverage": "1", "maxLeverage": "100"},
                "priceFilter": {"minPrice": "0.10", "maxPrice": "199999", "tickSize": "0.10"},
                "lotSizeFilter": {
                    "minOrderQty": "0.001",
                    "maxOrderQty": "100",
                    "qtyStep": "0.001",
                    "basePrecision": "0.000001",
                    "minNotionalValue": "5",
                },
            }
            for name in rows
        ]
        return {"category": kind, "list": records, "nextPageCursor": ""}

    def kline(self, query, path):
        interval = query["interval"]
        timeframe = MINUTES.get(interval)
        if timeframe is None:
            lengths = {step // 60_000: name for name, step in timeframes.STEPS_MS.items()}
            if not interval.isdigit() or int(interval) >= 1440 or int(interval) not in lengths:
                return 10001, "params error: interval invalid"
            timeframe = lengths[int(interval)]
        limit = min(int(query.get("limit", 200)), 1000)
        times = self.opens(timeframe, int(query["start"]), int(query["end"]) + 1)[:limit]
        columns = 4 if "mark-price" in path else 6
        symbol = query["symbol"]
        rows = [[str(t), *self.bar(timeframe, t, symbol)[:columns]] for t in reversed(times)]
        return {"category": query["category"], "symbol": symbol, "list": rows}

    def funding(self, query, path):
        if "startTime" in query and "endTime" not in query:
            return 10001, "params error: endTime is required"
        start, end = int(query.get("startTime", 0)), int(query.get("endTime", self.now))
        times = sorted((t for t in self.funding_times if start <= t <= end), reverse=True)[:200]
        rows = [
            {
                "symbol": "BTCUSDT",
                "fundingRate": self.funding_rate(t),
                "fundingRateTimestamp": str(t),
            }
            for t in times
        ]
        return {"category": "linear", "list": rows}

    def interest(self, query, path):
        timeframe = query["intervalTime"].replace("min", "m")
        times = self.opens(timeframe, int(query["startTime"]), int(query["endTime"]) + 1)
        rows = [
            {"openInterest": f"{1000 * uniform('interest', t):.3f}", "timestamp": str(t)}
            for t in times[: int(query.get("limit", 50))]
        ]
        return {"symbol": "BTCUSDT", "category": "linear", "list": rows[::-1]}

    def ticker(self, query, path):
        record = {"symbol": query["symbol"], "lastPrice": "101.5", "bid1Price": "101.4"}
        record |= {"ask1Price": "", "highPrice24h": "110", "lowPrice24h": "99.5"}
        return {"list": [{**record, "volume24h": "1234.5", "price24hPcnt": "-0.0125"}]}

    def book(self, query, path):
        depth = int(query["limit"])
        bids = [[f"{100 - 0.1 * k:.1f}", "1.5"] for k in range(depth)]
        asks = [[f"{100.1 + 0.1 * k:.1f}", "2.5"] for k in range(depth)]
        return {"s": query["symbol"], "b": bids, "a": asks, "ts": self.now, "u": 1}

    async def handle(self, request):
        path = request.path.removeprefix("/v5/")
        query = dict(request.query)
        self.counts[path] += 1
        self.log.append((path, query))
        fault = self.faults[path].get(self.counts[path]) or self.faults[path].get("always")
        if self.delay_s:
            await asyncio.sleep(self.delay_s)
        result = self.result(path, query)
        if fault in ("403", "500", "451"):
            return web.Response(
                status=int(fault), text="access too frequent" if fault == "403" else ""
            )
        if fault == "html":
            return web.Response(text=HTML, content_type="text/html")
        if fault == "timeout":
            await asyncio.sleep(0.6)
        if fault == "reset":
            request.transport.abort()
            return web.Response()
        headers = {}
        if fault and fault.isdigit():
            result = int(fault), "scripted"
            if fault == "10006":
                headers["X-Bapi-Limit-Reset-Timestamp"] = str(self.now + 7_000)
        elif fault and "list" in result:
            result = {**result, "list": spoil(fault, result["list"])}
        code, message = result if isinstance(result, tuple) else (0, "OK")
        body = {"retCode": code, "retMsg": message, "result": {} if code else result}
        text = json.dumps({**body, "retExtInfo": {}, "time": self.now})
        if fault == "truncated":
            text = text[: len(text) // 2]
        return web.Response(text=text, content_type="application/json", headers=headers)


def spoil(fault, rows):
    """The rows of a reply with a fault in them; newest first."""
    middle = len(rows) // 2
    if fault == "duplicate":
        return rows[: middle + 1] + rows[middle:]
    if fault == "conflict":
        return [
            *rows[: middle + 1],
            [*rows[middle][:4], rows[middle][3], *rows[middle][5:]],
            *rows[middle + 1 :],
        ]
    if fault == "missing":
        return rows[:middle] + rows[middle + 3 :]
    if fault == "shuffled":
        return rows[middle:] + rows[:middle]
    if fault == "short":
        return rows[middle:]
    if fault == "empty":
        return []
    if fault == "open":  # the candle of the present, and one step more than was asked for
        return [["1700002800000", "100", "101", "99", "100", "1", "100"], *rows]
    if fault in ("zero", "text", "nan", "crossed", "shifted"):
        row = list(rows[middle])
        row[1] = {"text": "n/a", "nan": "NaN"}.get(fault, row[1])
        if fault == "zero":
            row[1:5] = ["0"] * 4
        if fault == "crossed":
            row[2], row[3] = row[3], row[2]
        if fault == "shifted":
            row[0] = str(int(row[0]) + 1)
        return [*rows[:middle], row, *rows[middle + 1 :]]
    return rows


def serve(exchange):
    """Serves until the returned function is called; `exchange.url` is the address."""
    loop, started = asyncio.new_event_loop(), threading.Event()

    async def start():
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", exchange.handle)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        exchange.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        started.set()
        return runner

    def work():
        asyncio.set_event_loop(loop)
        holder.append(loop.run_until_complete(start()))
        loop.run_forever()
        loop.run_until_complete(holder[0].cleanup())
        loop.close()

    holder = []
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    started.wait()

    def stop():
        loop.call_soon_threadsafe(loop.stop)
        thread.join()

    return stop
