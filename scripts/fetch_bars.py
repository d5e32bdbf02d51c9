"""Fetches bars of an exchange into a folder, brings them up to date, and says what lacks.

python scripts/fetch_bars.py --symbol BTC/USDT:USDT --timeframe 1h --since 2022-01-01 --funding
python scripts/fetch_bars.py --symbol BTC/USDT:USDT --timeframe 1h            (later: the rest)
python scripts/fetch_bars.py --symbol BTC/USDT --timeframe 1d --limit 500 --output btc.csv

Bars are public: no account and no key is needed. All closed bars from --since on are stored in
DATA/EXCHANGE/SYMBOL/TIMEFRAME.parquet, which `read_bars` and the other scripts read; a download
that is cut off goes on where it was. A bar that the exchange does not have is a gap: it is printed,
recorded, and never filled. The last two bars are fetched again each time; what the exchange changed
in them is printed as a revision.
"""

import argparse
import sys
from collections.abc import Callable
from typing import Any

from densityjax import market
from densityjax.market import fetch, timeframes
from densityjax.market.store_update import Update

MOST_LINES = 20  # of gaps, and of revisions


def parsed(words: list[str]) -> argparse.Namespace:
    """Reads the arguments; what is not accepted ends the program with status 2."""
    parser = argparse.ArgumentParser(description="Fetches bars of an exchange into a folder.")
    parser.add_argument("--exchange", default="bybit", help="bybit (default)")
    parser.add_argument("--symbol", required=True, help="BTC/USDT:USDT is the linear swap")
    bars = "length of a bar: " + ", ".join(timeframes.TIMEFRAMES)
    parser.add_argument("--timeframe", default="1h", help=bars)
    parser.add_argument("--since", metavar="TIME", help="first bar, UTC; default: as stored")
    parser.add_argument("--until", metavar="TIME", help="end, not fetched; default: now")
    counted = "most bars: from --since on, or the last ones where that is not given"
    parser.add_argument("--limit", type=int, metavar="N", help=counted)
    parser.add_argument("--price", default="last", help="last (default) or mark")
    parser.add_argument("--funding", action="store_true", help="fetch funding rates, too")
    parser.add_argument("--data", default="data", metavar="FOLDER", help="default: data")
    parser.add_argument("--output", metavar="FILE", help="also write .csv, .csv.gz or .parquet")
    parser.add_argument("--testnet", action="store_true", help="the exchange's test network")
    parser.add_argument("--base-url", metavar="URL", help="another address, for tests and proxies")
    return parser.parse_args(words)


def span_of(options: argparse.Namespace, now_ms: int) -> tuple[Any, Any]:
    """Returns since and until, with --limit worked in."""
    if options.limit is None:
        return options.since, options.until
    if options.limit < 1:
        raise ValueError(f"--limit is {options.limit}: accepted is at least 1")
    if options.since is not None and options.until is not None:
        raise ValueError("--limit, --since and --until are given: accepted are two of them")
    if options.since is None:
        end = now_ms if options.until is None else timeframes.to_ms(options.until, name="until")
        since = timeframes.floor_open(options.timeframe, end)
        for _ in range(options.limit):
            since = timeframes.floor_open(options.timeframe, since - 1)
        return since, options.until
    since = timeframes.to_ms(options.since, name="since")
    until = timeframes.floor_open(options.timeframe, since)
    # A start inside a bar begins with the next one.
    for _ in range(options.limit + (until < since)):
        until = timeframes.next_open(options.timeframe, until)
    return options.since, until


def lines(update: Update, what: str) -> list[str]:
    """Lays out what an update did: rows, span, gaps and revisions."""
    manifest, rows = update.stored
    head = f"{what}: {len(rows.times):,} rows, {update.added:,} new"
    if rows.times.size:
        head += f", {timeframes.show_ms(rows.times[0])} to {timeframes.show_ms(rows.times[-1])} UTC"
    shown = [head, f"file: {update.path}", f"gaps: {len(manifest.gaps)}"]
    spans = [tuple(map(timeframes.show_ms, gap)) for gap in manifest.gaps[:MOST_LINES]]
    shown += [f"  no bars from {start} to before {stop}" for start, stop in spans]
    shown += _more(len(manifest.gaps))
    shown.append(f"revisions: {len(update.revisions)}")
    for revision in update.revisions[:MOST_LINES]:
        new = "no longer at the exchange; kept" if revision.new is None else f"{revision.new:.12g}"
        time = timeframes.show_ms(revision.time_ms)
        shown.append(f"  {time} {revision.column}: {revision.old:.12g} -> {new}")
    return shown + _more(len(update.revisions))


def fetched(options: argparse.Namespace, tell: Callable[[fetch.Progress], None]) -> list[str]:
    """Fetches what is asked for, and returns what to print."""
    timeframes.check_timeframe(options.timeframe)
    with market.connect(
        options.exchange, testnet=options.testnet, base_url=options.base_url
    ) as connection:
        connection.market(options.symbol)
        since, until = span_of(options, connection.server_ms())
        update = market.update_bars(
            connection,
            options.symbol,
            options.timeframe,
            since=since,
            until=until,
            folder=options.data,
            price=options.price,
            on_progress=tell,
        )
        shown = lines(update, f"{options.symbol} {options.timeframe}")
        if options.funding:
            start = update.stored.manifest.since_ms
            funding = market.update_funding(
                connection, options.symbol, since=start, folder=options.data
            )
            shown += lines(funding, f"{options.symbol} funding")
    if options.output:
        bars = market.load_bars(
            options.symbol,
            update.stored.manifest.series,
            exchange=connection.source,
            folder=options.data,
        )
        start, stop = (
            None if time is None else timeframes.to_ms(time, name="time") for time in (since, until)
        )
        if bars.empty:
            raise ValueError(f"{options.output} was not written: there are no bars of this span")
        opens = timeframes.stamps_ms(bars.index)
        inside = (opens >= (start or 0)) & (opens < (stop or opens[-1] + 1))
        bars = bars.loc[inside]
        market.write_bars(bars, options.output)
        shown.append(f"written: {options.output}, {len(bars):,} rows")
    return shown


def main(words: list[str]) -> int:
    """Fetches with progress on the screen; returns the exit status."""
    options = parsed(words)
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    bar = Progress(*columns, console=Console(stderr=True))
    task = bar.add_task(f"{options.symbol} {options.timeframe}", total=None)

    def tell(progress: fetch.Progress) -> None:
        bar.update(task, completed=progress.done, total=progress.total)

    try:
        with bar:
            shown = fetched(options, tell)
    except (ValueError, OSError, ImportError, market.FetchError) as error:
        print("error:", " ".join(str(error).split()), file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped: what was written is whole; the same command goes on", file=sys.stderr)
        return 130
    print("\n".join(shown))
    return 0


def _more(count: int) -> list[str]:
    """Returns a line that says how many are not shown."""
    return [f"  and {count - MOST_LINES} more"] if count > MOST_LINES else []


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
