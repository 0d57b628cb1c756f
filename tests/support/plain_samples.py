"""A slow transcription of the builders' protocols, in loops over behaviours."""

from dien_fuxictr.dataset.samples.protocols import DAY


def expected_split(event: int, events: int, time: int, latest: int, given: dict) -> str | None:
    """Return the split of an event, None for no split; for protocol last "any"."""
    protocol = given["protocol"]
    if protocol == "last":
        return "any" if event == events - 1 else None
    if protocol == "leave_one_out":
        return ("test", "valid", "train")[min((events - 1 - event) // given["test_last"], 2)]
    if protocol == "time":
        return "train" if time < int(given["valid_from"]) else "valid" if time < int(given["test_from"]) else "test"
    age = latest // DAY - time // DAY
    ends = {
        "test": given["test_days"],
        "valid": given["test_days"] + given["valid_days"],
        "train": given["target_days"],
    }
    return next((split for split, end in ends.items() if age < end), None)


def transcription(rows: list[dict], given: dict, labelled: bool, requests: bool) -> list[tuple]:
    """Return all samples, with ties in the order of the file.

    A sample is (split, label, user, item, category, colour, history). A colour is of a row; without labels a sample has
    the last one of its item before its time.
    """
    made = []
    events_of: dict[int, list[list[int]]] = {}  # user -> events, each the numbers of its rows
    for user in sorted({row["user"] for row in rows}):
        events: dict[object, list[int]] = {}
        for number, row in enumerate(rows):
            if row["user"] == user:
                events.setdefault(row["request"] if requests else number, []).append(number)
        events_of[user] = sorted(events.values(), key=lambda event: (min(rows[n]["time"] for n in event), event[0]))
    latest = max(min(rows[n]["time"] for n in event) for events in events_of.values() for event in events)
    for user, events in events_of.items():
        clicks = [
            n
            for event in events
            for n in sorted(event, key=lambda n: (rows[n]["time"], n))
            if not labelled or rows[n]["label"]
        ]
        clicks.sort(key=lambda n: rows[n]["time"])
        for place, event in enumerate(events):
            time = min(rows[n]["time"] for n in event)
            split = expected_split(place, len(events), time, latest, given)
            before = [n for n in clicks if rows[n]["time"] < time] if labelled else clicks[:place]
            if given["protocol"] == "window":
                before = [n for n in before if rows[n]["time"] >= time - given["history_days"] * DAY]
            before = before[-given["max_len"] :]
            if split is None or len(before) < given["min_history"]:
                continue
            for n in event:
                item = rows[n]["item"]
                earlier = [b for b in range(len(rows)) if rows[b]["item"] == item and rows[b]["time"] < time]
                latest_of_item = max(earlier, key=lambda b: (rows[b]["time"], f"u{rows[b]['user']}", b), default=None)
                colour = n if labelled else latest_of_item
                label = rows[n]["label"] if labelled else 1
                made.append(
                    (
                        split,
                        label,
                        f"u{user}",
                        f"i{item}",
                        f"c{item % 3}",
                        "unknown" if colour is None else f"x{colour}",
                        tuple(f"i{rows[b]['item']}" for b in before),
                        tuple(f"x{b}" for b in before),
                    )
                )
    return made
