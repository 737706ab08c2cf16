"""The pool: pages, reference counts, memory."""

from __future__ import annotations

import resource

import numpy as np
import pytest

from plait.core.config import PAGE
from plait.core.errors import CapacityError
from plait.kvcache.pool import KVLayout, Pool, num_pages

LAYOUT = KVLayout(num_layers=3, num_kv_heads=2, head_dim=8, dtype="f32")


@pytest.mark.parametrize(("dtype", "size"), [("f16", 2), ("f32", 4)])
def test_the_memory_has_the_shape_the_kernels_rely_on(dtype: str, size: int) -> None:
    pool = Pool(KVLayout(3, 2, 8, dtype), 5)
    assert pool.data.shape == (5, 3, 2, 2, PAGE * 8)
    assert pool.data.itemsize == size
    check_memory(pool)


def test_int8_memory_ends_each_part_with_a_scale_per_slot() -> None:
    pool = Pool(KVLayout(3, 2, 8, "int8"), 5)
    assert pool.data.shape == (5, 3, 2, 2, PAGE * (8 + 4))
    assert pool.data.itemsize == 1
    check_memory(pool)


def check_memory(pool: Pool) -> None:
    assert pool.data.flags.c_contiguous
    assert pool.data.flags.writeable
    assert pool.data.ctypes.data % 64 == 0
    assert pool.page_bytes * 5 == pool.data.nbytes
    assert not pool.data.any()


def test_pages_nobody_has_written_cost_no_memory() -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    pool = Pool(KVLayout(32, 8, 128, "f32"), 1024)  # 8 GiB of addresses
    page = pool.allocate()
    pool.data[page] = 1.0
    assert pool.data.nbytes > 2**32
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # KiB


def test_memory_that_cannot_be_had_is_the_users_to_hear_of() -> None:
    with pytest.raises(CapacityError, match="GiB"):
        Pool(LAYOUT, 2**55)


def test_a_page_is_free_again_when_its_last_owner_lets_go() -> None:
    pool = Pool(LAYOUT, 2)
    page = pool.allocate()
    assert page is not None
    pool.retain(page)
    assert pool.is_shared(page)
    pool.release(page)
    assert not pool.is_shared(page)
    assert pool.num_free == 1
    pool.release(page)
    assert pool.num_free == 2
    with pytest.raises(AssertionError, match="is free"):
        pool.release(page)
    with pytest.raises(AssertionError, match="is free"):
        pool.retain(page)


def test_a_kept_page_is_free_but_handed_out_last() -> None:
    pool = Pool(LAYOUT, 3)
    first, second, third = (pool.allocate() for _ in range(3))
    assert first is not None
    assert second is not None
    assert third is not None
    forgotten: list[int] = []
    for page in (first, second):
        pool.keep(page, forgotten.append)
        assert pool.is_shared(page)
    for page in (second, first, third):
        pool.release(page)
    pool.check([])
    assert (pool.num_free, pool.idle) == (3, [second, first])

    assert pool.allocate() == third
    assert (forgotten, pool.num_evicted) == ([], 0)
    pool.retain(first)
    assert (pool.num_owners(first), pool.num_free, pool.idle) == (1, 1, [second])
    assert pool.allocate() == second
    assert (forgotten, pool.num_evicted) == ([second], 1)
    assert not pool.is_shared(second)
    assert pool.allocate() is None
    pool.discard(first)
    pool.check([[first], [second], [third]])
    pool.release(first)
    assert (pool.num_free, pool.idle, forgotten) == (1, [], [second])


def test_an_empty_pool_says_so() -> None:
    pool = Pool(LAYOUT, 3)
    assert sorted(filter(lambda page: page is not None, [pool.allocate() for _ in range(3)])) == [
        0,
        1,
        2,
    ]
    assert pool.allocate() is None


def test_copy_moves_every_byte() -> None:
    pool = Pool(LAYOUT, 2)
    pool.data[0] = np.random.default_rng(0).normal(size=pool.data[0].shape)
    pool.copy(0, 1)
    np.testing.assert_array_equal(pool.data[0], pool.data[1])


def test_check_finds_books_that_do_not_balance() -> None:
    pool = Pool(LAYOUT, 4)
    pages = [page for _ in range(2) if (page := pool.allocate()) is not None]
    pool.check([pages])
    pool.check([[pages[0]], [pages[1]]])
    with pytest.raises(AssertionError, match="references"):
        pool.check([pages[:1]])  # leaked
    with pytest.raises(AssertionError, match="references"):
        pool.check([pages, pages])  # shared without a reference
    with pytest.raises(AssertionError, match="twice"):
        pool.check([[pages[0], pages[0]]])
    pool._free.append(pages[0])
    with pytest.raises(AssertionError, match="disagree"):
        pool.check([pages])
    pool._free[:] = [*pool._free[:-1], pool._free[0]]
    with pytest.raises(AssertionError, match="more than once"):
        pool.check([pages])


def test_check_finds_an_idle_page_that_nobody_keeps() -> None:
    pool = Pool(LAYOUT, 2)
    page = pool.allocate()
    assert page is not None
    pool.keep(page, lambda page: None)
    pool.release(page)
    pool.check([])
    pool._kept.clear()
    with pytest.raises(AssertionError, match="nobody keeps"):
        pool.check([])


@pytest.mark.parametrize(("slots", "pages"), [(0, 0), (1, 1), (PAGE, 1), (PAGE + 1, 2)])
def test_num_pages(slots: int, pages: int) -> None:
    assert num_pages(slots) == pages
