"""
A second verifier, written from the standards alone: the standard library, and nothing of ours.

RFC 6962 section 2 for trees (by its recursive definition), RFC 9162 for proofs, RFC 8032 section 5.1
for Ed25519, C2SP for notes. Slow and plain on purpose.
"""

import base64
import hashlib
import json
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

P = 2**255 - 19
L = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, P - 2, P) % P
SQRT = pow(2, (P - 1) // 4, P)
Point = tuple[int, int, int, int]


def _add(one: Point, two: Point) -> Point:
    a, b = (one[1] - one[0]) * (two[1] - two[0]) % P, (one[1] + one[0]) * (two[1] + two[0]) % P
    c, d = 2 * one[3] * two[3] * D % P, 2 * one[2] * two[2] % P
    e, f, g, h = b - a, d - c, d + c, b + a
    return e * f % P, g * h % P, f * g % P, e * h % P


def _times(number: int, point: Point) -> Point:
    total = (0, 1, 1, 0)
    while number:
        if number & 1:
            total = _add(total, point)
        point, number = _add(point, point), number >> 1
    return total


def _recovered(text: bytes) -> Point | None:
    y = int.from_bytes(text, "little")
    sign, y = y >> 255, y & (1 << 255) - 1
    if y >= P:
        return None
    square = (y * y - 1) * pow(D * y * y + 1, P - 2, P) % P
    x = pow(square, (P + 3) // 8, P)
    if (x * x - square) % P:
        x = x * SQRT % P
    if (x * x - square) % P or (not x and sign):
        return None
    x = P - x if (x & 1) != sign else x
    return x, y, 1, x * y % P


BASE_Y = 4 * pow(5, P - 2, P) % P
BASE = _recovered(BASE_Y.to_bytes(32, "little"))
assert BASE is not None


def signature_fits(key: bytes, text: bytes, signature: bytes) -> bool:
    """RFC 8032 section 5.1.7."""
    point, nonce = _recovered(key), _recovered(signature[:32])
    s = int.from_bytes(signature[32:], "little")
    if point is None or nonce is None or s >= L or len(signature) != 64:
        return False
    h = int.from_bytes(hashlib.sha512(signature[:32] + key + text).digest(), "little") % L
    left, right = _times(s, BASE), _add(nonce, _times(h, point))
    return not (left[0] * right[2] - right[0] * left[2]) % P and not (left[1] * right[2] - right[1] * left[2]) % P


def tree_head(leaves: Sequence[bytes]) -> bytes:
    """RFC 6962 section 2.1, as it is defined; leaves are hashed already."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    k = 1
    while 2 * k < len(leaves):
        k *= 2
    return hashlib.sha256(b"\x01" + tree_head(leaves[:k]) + tree_head(leaves[k:])).digest()


def root_by_inclusion(leaf: bytes, index: int, size: int, path: Sequence[bytes]) -> bytes | None:
    """RFC 9162 section 2.1.3.2."""
    if index >= size:
        return None
    fn, sn, r = index, size - 1, leaf
    for p in path:
        if sn == 0:
            return None
        if fn % 2 == 1 or fn == sn:
            r = hashlib.sha256(b"\x01" + p + r).digest()
            while fn % 2 == 0 and fn != 0:
                fn, sn = fn // 2, sn // 2
        else:
            r = hashlib.sha256(b"\x01" + r + p).digest()
        fn, sn = fn // 2, sn // 2
    return r if sn == 0 else None


def roots_by_consistency(first: int, second: int, path: Sequence[bytes], old_root: bytes) -> tuple[bytes, bytes] | None:
    """RFC 9162 section 2.1.4.2: the two roots that a consistency proof gives."""
    if first == second:
        return (old_root, old_root) if not path else None
    nodes = [old_root, *path] if first & (first - 1) == 0 else list(path)
    fn, sn = first - 1, second - 1
    while fn % 2 == 1:
        fn, sn = fn // 2, sn // 2
    fr = sr = nodes[0]
    for c in nodes[1:]:
        if sn == 0:
            return None
        if fn % 2 == 1 or fn == sn:
            fr, sr = hashlib.sha256(b"\x01" + c + fr).digest(), hashlib.sha256(b"\x01" + c + sr).digest()
            while fn % 2 == 0 and fn != 0:
                fn, sn = fn // 2, sn // 2
        else:
            sr = hashlib.sha256(b"\x01" + sr + c).digest()
        fn, sn = fn // 2, sn // 2
    return (fr, sr) if sn == 0 else None


def read_checkpoint(note: str, vkey: str) -> tuple[str, int, bytes]:
    """Give origin, size and root of a note that the key has signed."""
    name, key_hash, coded = vkey.split("+", 2)
    key = base64.b64decode(coded)[1:]
    expected = hashlib.sha256(name.encode() + b"\n\x01" + key).digest()[:4]
    assert expected.hex() == key_hash
    text, _, signatures = note.partition("\n\n")
    for line in signatures.splitlines():
        dash, who, told = line.split(" ")
        decoded = base64.b64decode(told)
        if dash == "\u2014" and who == name and decoded[:4] == expected:
            assert signature_fits(key, (text + "\n").encode(), decoded[4:]), "the signature does not fit"
            origin, size, root = text.split("\n")[:3]
            return origin, int(size), base64.b64decode(root)
    raise AssertionError("the key has not signed it")


def check_proof(document: str, vkey: str) -> list[tuple[str, int]]:
    """Check a proof by itself; give the entries that it proves."""
    proof = json.loads(document)
    assert proof["format"] == "payment-orchestrator/proof/1"
    _, size, root = read_checkpoint(proof["checkpoint"], vkey)
    proven = []
    for entry in proof["entries"]:
        leaf = hashlib.sha256(b"\x00" + entry["body"].encode()).digest()
        assert base64.b64encode(leaf).decode() == entry["leaf_hash"]
        path = [base64.b64decode(node) for node in entry["inclusion_path"]]
        assert root_by_inclusion(leaf, entry["leaf_index"], size, path) == root
        body = json.loads(entry["body"])
        assert (body["chain"], body["seq"]) == (entry["chain"], entry["seq"])
        proven.append((entry["chain"], entry["seq"]))
    for old in proof["consistency"]:
        _, old_size, old_root = read_checkpoint(old["checkpoint"], vkey)
        path = [base64.b64decode(node) for node in old["consistency_path"]]
        assert roots_by_consistency(old_size, size, path, old_root) == (old_root, root)
    return proven


def check_database(file: Path, vkey: str) -> dict[str, Any]:
    """Check a SQLite file's trail by itself: hashes, chains, leaves, roots, signatures."""
    with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as connection:
        rows = connection.execute("select chain_id, seq, hash, body from audit_entry order by 1, 2").fetchall()
        leaves = connection.execute("select idx, chain_id, seq, hash from log_leaf order by 1").fetchall()
        notes = connection.execute("select note from checkpoint order by size").fetchall()
        waiting = connection.execute("select chain_id, seq from unsealed").fetchall()
    bad, heads, hashes = [], {}, {}
    for chain, seq, digest, body in rows:
        told = json.loads(body)
        before = heads.get(chain, (0, bytes(32)))
        if (
            hashlib.sha256(b"\x00" + body.encode()).digest() != digest
            or (told["chain"], told["seq"]) != (chain, seq)
            or (seq - 1, told["prev"]) != (before[0], before[1].hex())
        ):
            bad.append((chain, seq))
        heads[chain], hashes[chain, seq] = (seq, digest), digest
    assert [idx for idx, *_ in leaves] == list(range(len(leaves)))
    bad += [(chain, seq) for _, chain, seq, digest in leaves if hashes.get((chain, seq)) != digest]
    for (note,) in notes:
        _, size, root = read_checkpoint(note, vkey)
        assert tree_head([digest for *_, digest in leaves[:size]]) == root
    sealed = {(chain, seq) for _, chain, seq, _ in leaves}
    assert set(hashes) - sealed == set(waiting)
    return {"entries": len(rows), "leaves": len(leaves), "checkpoints": len(notes), "bad": bad}
