/* SPDX-License-Identifier: MIT */
/*
 * hugepage.c - page backend: blocks on huge pages of 2 MiB, transparent ones or those of the system's reserved pool.
 *
 * It owns one pool of address space (extent.c, which has the locks) and what start found out about the system. Blocks lie side by
 * side and share huge pages at their ends. Those go back to the system as wholes, once no block is on them: giving back a part
 * would break the page, and the kernel would soon make it whole again.
 *
 * Huge pages are earned. A huge page costs some thirty times a small one, which is little for who touches all of it and much for
 * who touches a few bytes. So a block begins with a granule of small pages in front of its first huge page, and whether the
 * latter was touched shows if the program can do without this. And where blocks are not filled, or huge pages turn out to cost more
 * than small ones, blocks come from a second pool, which has small pages.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "hakmem/plugin.h"

#include <string.h>
#include <sys/mman.h>

#include "extent.h"
#include "fault_meter.h"
#include "populate.h"

#ifndef MAP_HUGE_2MB
#define MAP_HUGE_2MB (21 << 26) /* the binary logarithm of the page size, where the kernel looks for it */
#endif

/* Bytes that come from small pages at least, when a huge one was dear: with each change the pages of one pool are given up. */
#define PAUSE ((size_t)16 << 30)

#define AHEAD ((size_t)8 << 20) /* bytes of a block that come at once at most, from small pages */

enum {
  WITNESS = 16,   /* of so many packed blocks, one has a lead */
  WITNESSES = 16, /* that are remembered until they are freed */
  PROVEN = 4      /* witnesses in a row that were not filled, until blocks come from small pages */
};

/* Blocks that are not filled begin at multiples of it, so that the next ones find the pages that the last ones left. */
#define APART EXTENT_HUGE

#define ALONE (EXTENT_HUGE / 2)          /* blocks from this size on may have a lead, or come from the reserved pool */
#define LEAD (EXTENT_HUGE - HAK_GRANULE) /* puts the first granule of a block in front of a huge page, by itself */

/* ---- options and counters -------------------------------------------------------------------------------------------- */

enum { HUGEPAGE_ARENA, HUGEPAGE_MODE, HUGEPAGE_KEEP, HUGEPAGE_OPTIONS };

enum mode { MODE_AUTO, MODE_THP, MODE_HUGETLB };

static const char *const hugepage_modes[] = {"auto", "thp", "hugetlb", NULL};

static const hak_option hugepage_options[HUGEPAGE_OPTIONS] = {
    [HUGEPAGE_ARENA] = {.key = "arena",
                        .type = HAK_SIZE,
                        .fallback = "1G",
                        .min = "4M",
                        .max = "64G",
                        .help = "address space reserved at a time; larger blocks than a quarter get a mapping of their own"},
    [HUGEPAGE_MODE] = {.key = "mode",
                       .type = HAK_ENUM,
                       .fallback = "auto",
                       .choices = hugepage_modes,
                       .help = "auto: transparent ones while blocks are filled and they pay; thp: ask for them always; "
                               "hugetlb: from the reserved pool"},
    [HUGEPAGE_KEEP] = {.key = "keep",
                       .type = HAK_INT,
                       .fallback = "1000",
                       .min = "0",
                       .max = "86400000",
                       .help =
                           "milliseconds that pages which reclaim releases stay for new blocks, below the peak; 0: none do"},
};

enum { HUGEPAGE_FALLBACKS = EXTENT_COUNTERS, HUGEPAGE_COUNTERS };

static const hak_counter hugepage_counters[HUGEPAGE_COUNTERS] = {
    EXTENT_COUNTER_ROWS,
    {"fallbacks", HAK_COUNTER, HAK_SUM_NONE, "", "blocks for which the reserved pool had no huge page"},
};

/* ---- state ----------------------------------------------------------------------------------------------------------- */

struct hugepage {
  const hak_host *host;
  struct extent_pool *pool;
  struct extent_pool *small; /* the pool with small pages */
  enum mode mode;
  bool transparent;             /* the system gives huge pages to arenas */
  hak_lock lock;                /* guards the meter and what follows from it */
  struct fault_meter meter;     /* what huge pages cost */
  uint64_t keep;                /* ns; pages of freed blocks stay so long in the pool in force; constant */
  bool dear;                    /* huge pages take longer than small ones; atomic for readers without the lock */
  bool in_small;                /* the pool in force is the one with small pages; under the lock */
  uint32_t divided;             /* both pools are in use; atomic */
  uintptr_t latest;             /* page in the middle of the last witness; 0: it has been touched, or freed; atomic */
  uintptr_t witness[WITNESSES]; /* the last ones; 0: freed; atomic */
  uint32_t watched;             /* how many there were; atomic */
  uint32_t dense;               /* the last one of which that is known was filled; atomic */
  uint32_t packed;              /* blocks without a lead since; atomic */
  uint32_t sparse;              /* witnesses in a row that were not, at most PROVEN; changed under the lock, atomic */
  uint32_t warned;              /* the first fallback has been logged; atomic */
};

/* ---- callbacks ------------------------------------------------------------------------------------------------------- */

static size_t round_to_huge(size_t size)
{
  size_t up = (size + EXTENT_HUGE - 1) & ~(EXTENT_HUGE - 1);
  return up < size ? SIZE_MAX : up; /* more than extent.c accepts, or the kernel */
}

/*
 * A block of pages from the reserved pool. They are populated at once: a limit of the container may refuse at the first touch
 * what mmap has promised, and then it is a SIGBUS instead of an error.
 */
static hak_block pool_alloc(struct hugepage *huge, size_t size)
{
  const hak_os *os = huge->host->os;
  int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB | MAP_HUGE_2MB;
  long at = os->mmap(NULL, size, PROT_READ | PROT_WRITE, flags, -1, 0);
  if (!hak_os_failed(at)) {
    extent_adopt(huge->pool, size);
    if (populate(huge->host, (void *)at, size)) {
      return hak_block_make((void *)at, size, HAK_ZEROED | HAK_HUGE | HAK_PINNED);
    }
    extent_free(huge->pool, (void *)at, size);
  }
  hak_count(huge->host, HUGEPAGE_FALLBACKS, 1);
  if (__atomic_exchange_n(&huge->warned, 1U, __ATOMIC_RELAXED) == 0) {
    huge->host->log(huge->host, "the reserved pool has too few huge pages (/proc/sys/vm/nr_hugepages); using transparent ones");
  }
  return HAK_NO_BLOCK;
}

/* What a block with a lead gets: what would fill more than half of a huge page behind the others is rounded up to one. */
static size_t shape(size_t size)
{
  size_t tail = (size - HAK_GRANULE) % EXTENT_HUGE;
  size_t up = size + (EXTENT_HUGE - tail);
  return tail > EXTENT_HUGE / 2 && up > size ? up : size;
}

/* Whether it is proven that blocks are not filled. Who asks for huge pages always is not asked. */
static bool is_sparse(const struct hugepage *huge)
{
  return huge->mode == MODE_AUTO && __atomic_load_n(&huge->sparse, __ATOMIC_RELAXED) >= PROVEN;
}

/* Puts the pool in force that suits what is known: what is kept in the other is of no use any more. Under the lock. */
static void choose_pool(struct hugepage *huge)
{
  bool small = huge->dear || is_sparse(huge);
  if (small != huge->in_small) {
    huge->in_small = small;
    extent_keep(small ? huge->small : huge->pool, huge->keep);
    extent_keep(small ? huge->pool : huge->small, 0);
  }
}

/* A witness was filled, or it was not: that it is not yet shows only when it is freed. */
static void testify(struct hugepage *huge, bool filled)
{
  uint32_t before = __atomic_load_n(&huge->sparse, __ATOMIC_RELAXED), sparse = filled ? 0 : before + (before < PROVEN);
  __atomic_store_n(&huge->dense, filled, __ATOMIC_RELAXED);
  if (sparse != before) {
    hak_lock_acquire(huge->host, &huge->lock);
    __atomic_store_n(&huge->sparse, sparse, __ATOMIC_RELAXED);
    choose_pool(huge);
    hak_lock_release(huge->host, &huge->lock);
  }
}

/* Whether a page is there. `unknown` where the system does not tell. */
static bool is_there(const struct hugepage *huge, uintptr_t page, bool unknown)
{
  const hak_host *host = huge->host;
  unsigned char there = 0;
  bool known = host->basic_syscalls == 0 && !hak_os_failed(host->os->mincore((void *)page, host->page_size, &there));
  return known ? (there & 1) != 0 : unknown;
}

static uintptr_t middle_of(const struct hugepage *huge, const void *base, size_t capacity)
{
  return ((uintptr_t)base + capacity / 2) & ~((uintptr_t)huge->host->page_size - 1);
}

/* Looks at the last witness, with every block, since programs change. */
static void look(struct hugepage *huge)
{
  uintptr_t page = __atomic_load_n(&huge->latest, __ATOMIC_RELAXED);
  if (page != 0 && is_there(huge, page, false)) {
    __atomic_store_n(&huge->latest, 0, __ATOMIC_RELAXED);
    testify(huge, true);
  }
}

/*
 * The block will show whether blocks are filled: whether its middle is touched. Its pages are new, as those that were kept say what an
 * earlier block was used for.
 */
static void watch(struct hugepage *huge, hak_block block)
{
  if ((hak_block_flags(block) & HAK_ZEROED) != 0) {
    uint32_t at = __atomic_fetch_add(&huge->watched, 1U, __ATOMIC_RELAXED) % WITNESSES;
    __atomic_store_n(&huge->witness[at], (uintptr_t)block.base, __ATOMIC_RELAXED);
    __atomic_store_n(&huge->latest, middle_of(huge, block.base, hak_block_capacity(block)), __ATOMIC_RELAXED);
  }
}

/* A block that is freed or resized is no witness any more. True when it was one. */
static bool dismiss(struct hugepage *huge, const void *base, size_t capacity)
{
  bool found = false;
  for (uint32_t i = 0; i < WITNESSES && !found; i++) {
    uintptr_t address = (uintptr_t)base;
    found = __atomic_load_n(&huge->witness[i], __ATOMIC_RELAXED) == address &&
            __atomic_compare_exchange_n(&huge->witness[i], &address, 0, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
  }
  uintptr_t page = middle_of(huge, base, capacity);
  if (found) {
    (void)__atomic_compare_exchange_n(&huge->latest, &page, 0, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
  }
  return found;
}

/* Before its pages may go. */
static void note_freed(struct hugepage *huge, const void *base, size_t capacity)
{
  if (dismiss(huge, base, capacity)) {
    testify(huge, is_there(huge, middle_of(huge, base, capacity), true));
  }
}

static bool is_dense(const struct hugepage *huge)
{
  return __atomic_load_n(&huge->dense, __ATOMIC_RELAXED) != 0;
}

/* Whether to expect of the next block that it will be filled. One of some is still a witness, to notice a change. */
static bool is_packed(struct hugepage *huge)
{
  return is_dense(huge) && __atomic_add_fetch(&huge->packed, 1U, __ATOMIC_RELAXED) % WITNESS != 0;
}

/* Whether the last witness was filled, as far as one can tell now. */
static bool is_filled(const struct hugepage *huge)
{
  return __atomic_load_n(&huge->latest, __ATOMIC_RELAXED) == 0;
}

/* Whether huge pages are worth their price: blocks are filled, as far as one can tell, and they take less time than small ones. */
static bool huge_pays(struct hugepage *huge, size_t size)
{
  if (huge->mode != MODE_AUTO) {
    return true;
  }
  hak_lock_acquire(huge->host, &huge->lock);
  bool pays = fault_huge_pays(&huge->meter, size);
  hak_lock_release(huge->host, &huge->lock);
  return pays && !is_sparse(huge);
}

/*
 * Makes the pages of a block that will be filled resident, as far as one should go ahead of the program, and notes what that takes. A
 * touch of some is a part of it: in a virtual machine that has no page tables of its own in hardware, the dear part.
 */
static void come_together(struct hugepage *huge, void *base, size_t size)
{
  const hak_host *host = huge->host;
  size_t bytes = size < AHEAD ? size & ~(HAK_GRANULE - 1) : AHEAD;
  uint64_t began = host->os->now();
  size_t seen = populate(host, base, bytes) ? bytes : HAK_GRANULE; /* older systems cannot: one touch must do */
  uint64_t done = host->os->now(), pages = bytes / host->page_size;
  for (size_t at = 0; at < seen; at += HAK_GRANULE) {
    *(volatile char *)((char *)base + at) = 0;
  }
  uint64_t touches = host->os->now() - done;
  hak_lock_acquire(host, &huge->lock);
  fault_note_small(&huge->meter, done - began + touches * pages / (seen / HAK_GRANULE), pages);
  hak_lock_release(host, &huge->lock);
}

/* A block of small pages. Where blocks turn out to be filled, its pages come at once; one of some is a witness here, too. */
static hak_block small_alloc(struct hugepage *huge, size_t size, size_t align)
{
  __atomic_store_n(&huge->divided, 1U, __ATOMIC_RELEASE);
  hak_block block = extent_alloc(huge->small, size, is_sparse(huge) && align < APART ? APART : align);
  if (block.base == NULL) {
    return block;
  }
  if ((block.info & HAK_ZEROED) == 0) {
    return block; /* most of its pages are there */
  }
  if (is_packed(huge) && is_filled(huge)) {
    come_together(huge, block.base, size);
  } else {
    watch(huge, block);
  }
  return block;
}

/*
 * A block whose first granule has small pages: who touches the beginning only does not pay for a huge page. While blocks turn out
 * to be touched beyond that, they are packed instead, which wastes nothing. Where there is no place for a lead, all pages are small.
 */
static hak_block witness_alloc(struct hugepage *huge, size_t size)
{
  if (is_packed(huge)) {
    return HAK_NO_BLOCK;
  }
  hak_block block = extent_alloc_lead(huge->pool, shape(size));
  if (block.base == NULL && huge->mode == MODE_AUTO && !is_dense(huge)) {
    return small_alloc(huge, size, HAK_GRANULE);
  }
  watch(huge, block);
  return block;
}

/* Notes what the first touch of a huge page took: they may have become dear, or cheap again. */
static void judge(struct hugepage *huge, uint64_t took)
{
  hak_lock_acquire(huge->host, &huge->lock);
  bool pays = fault_note_huge(&huge->meter, took, PAUSE);
  if (took >= FAULT_LEAST_HUGE) {
    __atomic_store_n(&huge->dear, !pays, __ATOMIC_RELAXED);
    choose_pool(huge);
  }
  hak_lock_release(huge->host, &huge->lock);
}

/*
 * Touches the first whole huge page of a block that will be filled, as far as one can tell. False when that was dear: it is the only
 * one that this costs.
 */
static bool try_page(struct hugepage *huge, hak_block block)
{
  char *base = block.base;
  char *page = (char *)round_to_huge((uintptr_t)base);
  if (huge->mode != MODE_AUTO || !is_dense(huge) || !is_filled(huge) || page + EXTENT_HUGE > base + hak_block_capacity(block)) {
    return true;
  }
  judge(huge, fault_touch(huge->host, page));
  return !__atomic_load_n(&huge->dear, __ATOMIC_RELAXED);
}

static hak_block packed_alloc(struct hugepage *huge, size_t size, size_t align)
{
  hak_block block = extent_alloc(huge->pool, size, align);
  block.info |= block.base != NULL && huge->transparent ? HAK_HUGE : 0U;
  return block;
}

/* A block that is large enough for huge pages of its own. */
static hak_block large_alloc(struct hugepage *huge, size_t size, size_t align)
{
  hak_block block = HAK_NO_BLOCK;
  look(huge);
  if (huge->mode == MODE_HUGETLB && align <= EXTENT_HUGE) {
    block = pool_alloc(huge, round_to_huge(size));
  } else if (huge->transparent && !huge_pays(huge, size)) {
    block = small_alloc(huge, size, align);
  } else if (huge->transparent && align <= HAK_GRANULE) {
    block = witness_alloc(huge, size);
  }
  if (block.base != NULL) {
    return block;
  }
  block = packed_alloc(huge, size, align);
  if (block.base != NULL && huge->transparent && !try_page(huge, block)) {
    hak_block small = small_alloc(huge, size, align);
    if (small.base != NULL) {
      extent_free(huge->pool, block.base, hak_block_capacity(block));
      block = small;
    }
  }
  return block;
}

static hak_block hugepage_alloc(void *self, void **slot, size_t size, size_t align)
{
  (void)slot;
  struct hugepage *huge = self;
  return size >= ALONE ? large_alloc(huge, size, align) : packed_alloc(huge, size, align);
}

/* The pool of a block. What lies in no arena may go to either. */
static struct extent_pool *pool_of(struct hugepage *huge, const void *base)
{
  bool small = __atomic_load_n(&huge->divided, __ATOMIC_ACQUIRE) != 0 && extent_in_arena(huge->small, base);
  return small ? huge->small : huge->pool;
}

static void hugepage_free(void *self, void **slot, void *base, size_t capacity)
{
  (void)slot;
  struct hugepage *huge = self;
  note_freed(huge, base, capacity);
  extent_free(pool_of(huge, base), base, capacity);
}

static hak_block hugepage_resize(void *self, void **slot, void *base, size_t capacity, size_t size)
{
  (void)slot;
  struct hugepage *huge = self;
  struct extent_pool *pool = pool_of(huge, base);
  (void)dismiss(huge, base, capacity);
  if (huge->mode == MODE_HUGETLB && pool == huge->pool && !extent_in_arena(pool, base)) {
    return HAK_NO_BLOCK; /* most likely pages of the reserved pool, whose mappings cannot grow */
  }
  hak_block block = extent_resize(pool, base, capacity, size, HAK_GRANULE);
  block.info |= block.base != NULL && huge->transparent && pool == huge->pool ? HAK_HUGE : 0U;
  return block;
}

static size_t hugepage_trim(void *self)
{
  struct hugepage *huge = self;
  return extent_trim(huge->pool) + extent_trim(huge->small);
}

static bool hugepage_expire(void *self)
{
  struct hugepage *huge = self;
  bool more = extent_expire(huge->pool);
  return extent_expire(huge->small) || more;
}

static void hugepage_fork_prepare(void *self)
{
  struct hugepage *huge = self;
  hak_lock_acquire(huge->host, &huge->lock);
  extent_fork_prepare(huge->pool);
  extent_fork_prepare(huge->small);
}

static void hugepage_fork_parent(void *self)
{
  struct hugepage *huge = self;
  extent_fork_parent(huge->small);
  extent_fork_parent(huge->pool);
  hak_lock_release(huge->host, &huge->lock);
}

static void hugepage_fork_child(void *self)
{
  struct hugepage *huge = self;
  extent_fork_child(huge->small);
  extent_fork_child(huge->pool);
  huge->lock.word = 0;
}

/* Neighbours in a chain that are of the same pool go together. The links are the caller's, and as they were afterwards. */
static void hugepage_free_many(void *self, void **slot, const hak_range *chain, const hak_purger *purger)
{
  (void)slot;
  struct hugepage *huge = self;
  for (const hak_range *range = chain; range != NULL; range = range->next) {
    note_freed(huge, range->base, range->capacity);
  }
  if (__atomic_load_n(&huge->divided, __ATOMIC_ACQUIRE) == 0) {
    extent_free_many(huge->pool, chain, purger);
    return;
  }
  while (chain != NULL) {
    hak_range *last = (hak_range *)(uintptr_t)chain;
    struct extent_pool *pool = pool_of(huge, chain->base);
    while (last->next != NULL && pool_of(huge, last->next->base) == pool) {
      last = last->next;
    }
    hak_range *next = last->next;
    last->next = NULL;
    extent_free_many(pool, chain, purger);
    last->next = next;
    chain = next;
  }
}

static int32_t hugepage_start(const hak_host *host, const hak_value *values, void **self)
{
  struct hugepage *huge = host->meta_alloc(host, sizeof(*huge), _Alignof(struct hugepage));
  if (huge == NULL) {
    host->log(host, "no memory to start with");
    return HAK_NO_MEMORY;
  }
  huge->host = host;
  huge->mode = (enum mode)values[HUGEPAGE_MODE].choice;

  /* "always [madvise] never", with brackets around what is in force; nothing where /sys is missing or the kernel lacks them. */
  char enabled[64] = "";
  (void)host->os->read_file("/sys/kernel/mm/transparent_hugepage/enabled", enabled, sizeof enabled);
  bool always = strstr(enabled, "[always]") != NULL;
  bool never = strstr(enabled, "[never]") != NULL;
  bool advise = strstr(enabled, "[madvise]") != NULL || (huge->mode == MODE_THP && !never);
  huge->transparent = always || advise;
  if (huge->mode == MODE_THP && never) {
    host->log(host, "mode = thp: transparent huge pages are switched off in the system; using plain pages");
  }

  huge->keep = (uint64_t)values[HUGEPAGE_KEEP].integer * EXTENT_MILLISECOND;
  const struct extent_setup setup = {.arena = values[HUGEPAGE_ARENA].size,
                                     .unit = EXTENT_HUGE,
                                     .lead = LEAD,
                                     .advice = advise ? MADV_HUGEPAGE : MADV_NORMAL,
                                     .keep = huge->keep};
  struct extent_setup small = setup;
  small.unit = HAK_GRANULE;
  small.lead = 0;
  small.advice = always ? MADV_NOHUGEPAGE : MADV_NORMAL; /* for good: no block of this pool wants huge pages */
  small.keep = 0;
  huge->pool = extent_start(host, &setup);
  huge->small = huge->pool != NULL ? extent_start(host, &small) : NULL;
  if (huge->small == NULL) {
    return HAK_NO_MEMORY;
  }
  extent_warm(huge->pool);
  *self = huge;
  return HAK_OK;
}

/* ---- what the core sees ---------------------------------------------------------------------------------------------- */

static const hak_backend_ops hugepage_ops = {
    .struct_size = sizeof(hak_backend_ops),
    .granularity = HAK_PAGE,
    .alloc = hugepage_alloc,
    .free = hugepage_free,
    .resize = hugepage_resize,
    .trim = hugepage_trim,
    .fork_prepare = hugepage_fork_prepare,
    .fork_parent = hugepage_fork_parent,
    .fork_child = hugepage_fork_child,
    .free_many = hugepage_free_many,
    .expire = hugepage_expire,
};

HAK_PLUGIN_EXPORT const hak_plugin hakmem_plugin = {
    .struct_size = sizeof(hak_plugin),
    .abi_major = HAK_ABI_MAJOR,
    .abi_minor = HAK_ABI_MINOR,
    .kind = HAK_BACKEND,
    .name = "hugepage",
    .version = "0.1",
    .summary = "huge pages of 2 MiB, transparent or from the reserved pool",
    .options = hugepage_options,
    .option_count = HUGEPAGE_OPTIONS,
    .option_stride = sizeof(hak_option),
    .counters = hugepage_counters,
    .counter_count = HUGEPAGE_COUNTERS,
    .counter_stride = sizeof(hak_counter),
    .start = hugepage_start,
    .ops = &hugepage_ops,
};
