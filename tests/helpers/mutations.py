"""Damaged versions of texts, by a seed."""

_PIECES = [b"{", b"}", b"[", b"<", b'"', b"'", b"\\", b"\0", b"\xff", b"\xc3", b"#", b"$", b"${N}", b":", b",", b"1e99"]
_PIECES += [
    b"-",
    b"inf",
    b"nan",
    b"0x",
    b"9" * 40,
    b"layer",
    b"layers {",
    b"\r",
    b"\xef\xbb\xbf",
    b" ",
    b"TRAIN",
    b"1.5f",
]


def mutated(content, rng):
    """A copy of some bytes with one to four changes: flips, deletions, insertions, swaps, cuts, repetitions."""
    data = bytearray(content)
    for _ in range(rng.randint(1, 4)):
        place = rng.randrange(len(data) + 1)
        length = rng.choice((1, 1, 1, 3, 10, 60))
        change = rng.randrange(6)
        if change == 0 and place < len(data):
            data[place] ^= 1 << rng.randrange(8)
        elif change == 1:
            del data[place : place + length]
        elif change == 2:
            data[place:place] = rng.choice(_PIECES)
        elif change == 3 and place < len(data):
            data[place] = rng.randrange(256)
        elif change == 4 and rng.random() < 0.2:
            del data[place:]
        elif change == 5:
            other = rng.randrange(len(data) + 1)
            data[other:other] = data[place : place + length]
    return bytes(data)
