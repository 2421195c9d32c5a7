"""The time that a run has spent on training steps, from the log in its folder."""


def seconds_of(lines: list[dict[str, float]], batch_size: int) -> dict[int, float]:
    """Seconds of training up to each logged step, with compilation and without validation, from metrics.jsonl."""
    seconds, previous, total = {}, 0, 0.0
    for line in lines:
        if "examples_per_second" in line:
            total += (line["step"] - previous) * batch_size / line["examples_per_second"]
            previous = int(line["step"])
            seconds[previous] = total
    return seconds
