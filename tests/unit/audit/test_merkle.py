"""Trees and proofs: published vectors, the definition itself, and a second implementation."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.audit.merkle import (
    EMPTY_ROOT,
    Log,
    consistency_proof,
    consistent,
    included,
    inclusion_proof,
    root_of,
    subtrees_of,
)
from tests.support.independent import root_by_inclusion, roots_by_consistency, tree_head

# The test data of the Certificate Transparency reference implementation (google/certificate-transparency,
# cpp/merkletree/merkle_tree_test.cc), which RFC 6962 implementations share.
INPUTS = ("", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f")
LEAVES = [hashlib.sha256(b"\0" + bytes.fromhex(text)).digest() for text in INPUTS]
ROOTS = (
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
)
PATH_OF_THE_FIRST_OF_EIGHT = (
    "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
    "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
    "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
)
FROM_ONE_TO_EIGHT = PATH_OF_THE_FIRST_OF_EIGHT


def leaves(count: int) -> list[bytes]:
    return [hashlib.sha256(b"\0" + str(number).encode()).digest() for number in range(count)]


def test_the_published_roots_and_paths() -> None:
    assert [root_of(LEAVES[:size]).hex() for size in range(1, 9)] == list(ROOTS)
    assert root_of([]) == EMPTY_ROOT
    subtree = subtrees_of(LEAVES)
    assert [node.hex() for node in inclusion_proof(0, 8, subtree)] == list(PATH_OF_THE_FIRST_OF_EIGHT)
    assert [node.hex() for node in consistency_proof(1, 8, subtree)] == list(FROM_ONE_TO_EIGHT)


@given(st.integers(0, 130), st.data())
def test_a_log_that_grows_has_the_root_of_the_definition_and_goes_on_from_its_nodes(
    size: int, data: st.DataObject
) -> None:
    hashes = leaves(size)
    cut = data.draw(st.integers(0, size))
    log = Log()
    log.extend(hashes[:cut])
    again = Log.unpacked(log.size, log.packed)
    again.extend(hashes[cut:])

    assert again.root == tree_head(hashes)
    assert len(again.nodes) == size.bit_count()


@given(st.integers(1, 130), st.data())
def test_every_leaf_is_proven_and_no_other(size: int, data: st.DataObject) -> None:
    hashes, index = leaves(size), data.draw(st.integers(0, size - 1))
    root, path = tree_head(hashes), inclusion_proof(index, size, subtrees_of(hashes))

    assert included(hashes[index], index, size, path, root)
    assert root_by_inclusion(hashes[index], index, size, path) == root
    assert not included(bytes(32), index, size, path, root)
    assert not included(hashes[index], (index + 1) % size, size, path, root) or size == 1
    assert not included(hashes[index], index, size, [*path, bytes(32)], root)
    assert not included(hashes[index], size, size, path, root)


@given(st.integers(1, 130), st.data())
def test_a_log_is_every_earlier_one_grown_and_no_other(size: int, data: st.DataObject) -> None:
    hashes, old = leaves(size), data.draw(st.integers(1, size))
    root, old_root = tree_head(hashes), tree_head(hashes[:old])
    path = consistency_proof(old, size, subtrees_of(hashes))

    assert consistent(old, old_root, size, root, path)
    assert roots_by_consistency(old, size, path, old_root) == (old_root, root)
    assert not consistent(old, bytes(32), size, root, path)
    assert not consistent(old, old_root, size, bytes(32), path)
    assert not consistent(old, old_root, size, root, [*path, bytes(32)])
    assert not path or not consistent(old, old_root, size, root, path[:-1])


def test_what_is_no_proof_is_refused() -> None:
    with pytest.raises(ValueError, match="no such leaf"):
        inclusion_proof(3, 3, subtrees_of(leaves(3)))
    with pytest.raises(ValueError, match="earlier"):
        consistency_proof(0, 3, subtrees_of(leaves(3)))
    with pytest.raises(ValueError, match="bits"):
        Log.unpacked(3, bytes(32))
    with pytest.raises(ValueError, match="32 bytes"):
        Log.unpacked(1, bytes(31))
    assert not consistent(0, EMPTY_ROOT, 3, root_of(leaves(3)), [])
    assert not consistent(3, bytes(32), 5, bytes(32), [])
