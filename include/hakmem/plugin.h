/* SPDX-License-Identifier: MIT */
/*
 * hakmem/plugin.h - everything a hakmem plugin needs, and the only header it may include.
 *
 * A plugin is one shared object that exports one constant:
 *
 *     HAK_PLUGIN_EXPORT const struct hak_plugin hakmem_plugin = { ... };
 *
 * It is loaded with RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE and never unloaded. The descriptor can be read without starting
 * the plugin; `hakmem plugins` does so.
 *
 * Thread tags. Every function says who may call it, and when:
 *
 *   [load]   one thread, before the plugin serves anything. The plugin may call malloc here (boot memory serves it).
 *   [any]    any thread, concurrently, at any moment, also inside another library's lock.
 *   [slow]   one thread at a time, on a slow path of some thread, concurrently with [any].
 *   [epoch]  one thread at a time, at the end of an epoch, concurrently with [any] of other plugins.
 *   [exit]   one thread, when the process ends in good order. Other threads may still run [any].
 *   [fork]   the forking thread. Between prepare and parent or child, no other callback of the plugin runs on that thread.
 *
 * Rules for all callbacks but [load]:
 *   - No malloc, free or anything that calls them (stdio, dlopen, C++ containers, first use of thread-local storage). A
 *     malloc that arrives all the same is served by boot memory, counted, and logged once under the plugin's name. Memory
 *     for the plugin itself comes from host->meta_alloc.
 *   - No thread-local storage: use the per-thread slot.
 *   - errno is left as found. The functions of host->os leave it alone already.
 *   - No floating point without feholdexcept: a program may run with trapping floating-point exceptions.
 *
 * Versions. Structs start with struct_size and only ever grow at their end. The core reads min(its size, struct_size) bytes
 * and takes what is missing as zero; members added after 0.1 are optional and say `since`. The major number must be equal;
 * a plugin of a newer minor loads. While the major number is 0 it changes with every incompatible change.
 *
 * All sizes are bytes, all times nanoseconds, unless said otherwise.
 */
#ifndef HAKMEM_PLUGIN_H
#define HAKMEM_PLUGIN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#ifdef __cplusplus
extern "C" {
#endif

#define HAK_ABI_MAJOR 0
#define HAK_ABI_MINOR 6

#define HAK_PLUGIN_EXPORT __attribute__((visibility("default")))

/* Address space is accounted in granules: a page block starts at a multiple of this, a class span covers whole ones. */
#define HAK_GRANULE ((size_t)65536)

/* Largest request that a size class serves. */
#define HAK_CLASS_MAX ((size_t)262144)

/* Power-of-two size bins that a policy chooses for: a request of n bytes is in bin floor(log2(n)). */
#define HAK_BINS 48

/*
 * Objects that change hands between the core's magazines and a class backend in one call: at most so many, or as many as the backend
 * says for itself (hak_backend_ops.run), but no more than HAK_RUN_LONGEST.
 */
#define HAK_RUN_MAX 64
#define HAK_RUN_LONGEST 256

/* Spans that one call of hak_purger.purge is given at most: as many as a bit mask of one word describes. */
#define HAK_PURGE_SPANS 64

/* Result codes of callbacks. 0 is success, every error is negative; a positive value is a callback's own business. */
enum hak_result {
  HAK_OK = 0,
  HAK_UNSUPPORTED = -1, /* not offered, by the plugin or by this machine; never retried */
  HAK_NO_MEMORY = -2,   /* the operating system refused; may succeed later */
  HAK_INVALID = -3,     /* an argument or option value is unusable */
  HAK_FAILED = -4       /* anything else */
};

/* ---- blocks ---------------------------------------------------------------------------------------------------------- */

enum hak_block_flag {
  HAK_ZEROED = 1, /* every byte of this hand-out reads as zero. Set only for a fresh mapping or after a complete purge. */
  HAK_HUGE = 2,   /* backed, or about to be backed, by huge pages */
  HAK_PINNED = 4, /* its pages cannot be given back to the system while it lives (hugetlb, mlocked) */
  HAK_TRIED = 8   /* the core's: handed out for a strategy that the policy tries out; since 0.5 */
};

/* A block of memory as backends hand it out: two words, returned in registers. base == NULL means failure. */
typedef struct hak_block {
  void *base;
  uint64_t info; /* capacity << 8 | flags */
} hak_block;

static inline hak_block hak_block_make(void *base, size_t capacity, uint32_t flags)
{
  hak_block block = {base, ((uint64_t)capacity << 8) | (flags & 0xffU)};
  return block;
}

static inline size_t hak_block_capacity(hak_block block)
{
  return (size_t)(block.info >> 8);
}

static inline uint32_t hak_block_flags(hak_block block)
{
  return (uint32_t)(block.info & 0xffU);
}

#define HAK_NO_BLOCK (hak_block_make(NULL, 0, 0))

/*
 * A range: a page block that the program has freed and that its backend has not got back. Exactly one party holds it: the
 * cache that keeps it, the reclaim plugin in which it waits, or the core in between. Only the holder reads and writes it. The
 * memory of the description itself is the core's, and stays valid.
 */
typedef struct hak_range {
  void *base;
  size_t capacity;        /* bytes, as the backend handed it out */
  size_t requested;       /* bytes that the program had asked for */
  const void *site;       /* return address of the call that allocated it; a key, never to be read through */
  struct hak_range *next; /* the holder's: links ranges into chains that end with NULL */
  uint64_t stamp;         /* the holder's: a time, say */
  uint8_t backend;        /* index of the backend that it goes back to: ranges of different backends never mix */
  uint8_t arm;            /* strategy that allocated it */
  uint8_t flags;          /* HAK_HUGE, HAK_PINNED, HAK_TRIED */
  uint8_t reserved;       /* the core's */
} hak_range;

/* ---- services of the core -------------------------------------------------------------------------------------------- */

/*
 * A lock that spins briefly and then sleeps in the kernel. Zero is unlocked. Not recursive. After a fork, the child's
 * `fork_child` sets every lock of the plugin to zero.
 */
typedef struct hak_lock {
  uint32_t word;
} hak_lock;

/*
 * System calls and the clock. Plugins use these and nothing of libc for the same purpose: other libraries hook libc's, and
 * tests inject failures here. [any]. Each returns what the kernel returns: >= 0, or -errno. errno itself is untouched.
 */
typedef struct hak_os {
  uint32_t struct_size;
  long (*mmap)(void *addr, size_t length, int prot, int flags, int fd, int64_t offset); /* the address, or -errno */
  long (*munmap)(void *addr, size_t length);
  long (*mprotect)(void *addr, size_t length, int prot);
  long (*mremap)(void *old_addr, size_t old_length, size_t new_length, int flags, void *new_addr);
  long (*madvise)(void *addr, size_t length, int advice);
  long (*process_madvise)(int pidfd, const void *iovec, size_t count, int advice, uint32_t flags);
  long (*mincore)(void *addr, size_t length, unsigned char *vec);
  long (*read_file)(const char *path, char *buffer, size_t size); /* bytes read, at most size - 1; NUL-terminated */
  uint64_t (*now)(void);                                          /* monotonic clock */
  uint64_t (*coarse)(void); /* the same clock, some milliseconds behind: a few instructions, no system call */
  /*
   * Puts a file of that content in place of `path` at once, readable by its owner only. The bytes written. What is there and no regular
   * file, such as a symbolic link or a device, stays: -EEXIST.
   */
  long (*write_file)(const char *path, const char *content, size_t size);
} hak_os;

/* True for the address range in which the kernel reports errors through a return value. */
static inline bool hak_os_failed(long result)
{
  return (unsigned long)result > (unsigned long)-4096L;
}

/* A source of page blocks: a page backend that the INI named for this plugin (option type HAK_PAGES). */
typedef struct hak_pages {
  uint32_t struct_size;
  const char *name;
  /*
   * [any] At least `size` bytes at a multiple of `align` (a power of two, at least HAK_GRANULE). The capacity returned is
   * what must be given back. NULL on failure.
   */
  hak_block (*alloc)(const struct hak_pages *pages, size_t size, size_t align);
  /* [any] Gives back a whole block from `alloc`. */
  void (*free)(const struct hak_pages *pages, void *base, size_t capacity);
} hak_pages;

/*
 * How pages are given back. A reclaim plugin hands one to host->release; the backends call it with the spans they no longer
 * need, from low addresses to high, with no lock held. `spans` are struct iovec, at most HAK_PURGE_SPANS. Bit i of the result
 * says that the system kept the pages of span i; those of all others read as zero from now on. The errno is kept. It stays valid
 * for ever: a backend that keeps pages calls it later, from any callback.
 */
typedef struct hak_purger {
  uint64_t (*purge)(const struct hak_purger *purger, const struct iovec *spans, uint32_t count);
} hak_purger;

/* The core, as one plugin sees it. Valid for the life of the process; each plugin has its own. */
typedef struct hak_host {
  uint32_t struct_size;
  uint16_t abi_major, abi_minor; /* of the core */
  const char *name;              /* the plugin's instance name: what [backend.NAME] in the INI says */
  const hak_os *os;
  uint64_t *counters;          /* one for each counter of the descriptor, in its order; see hak_count */
  const uint64_t *active;      /* bytes in live page blocks of all backends, at any moment; read it atomically */
  uint32_t page_size;          /* of the machine */
  uint32_t class_count;        /* size classes are 0 ... class_count - 1 */
  const uint32_t *class_bytes; /* object size of each class, a multiple of 16 */
  uint32_t arm_count;          /* strategies of the INI; 0 unless the plugin is a policy */
  const char *const *arm_name; /* their names */
  uint32_t hardened;           /* 0 off, 1 basic, 2 full */
  uint32_t basic_syscalls;     /* 1: no system calls that sandboxes tend to forbid (process_madvise, mincore) */

  /* [any] Zeroed memory that is never freed, aligned to `align` (a power of two up to 4096). NULL when there is none. */
  void *(*meta_alloc)(const struct hak_host *host, size_t size, size_t align);

  /* [any] Writes one line to standard error, preceded by the plugin's name. For what a user must know; not for tracing. */
  void (*log)(const struct hak_host *host, const char *text);

  /*
   * [load] The address of a function: in the library of that name or path, loaded if need be and kept for ever; or, with
   * NULL, the next definition after libhakmem in link order. NULL and one logged line when there is none.
   */
  void *(*symbol)(const struct hak_host *host, const char *library, const char *symbol);

  /* [any] Slow halves of the lock; use hak_lock_acquire and hak_lock_release. */
  void (*lock_wait)(const struct hak_host *host, hak_lock *lock);
  void (*lock_wake)(const struct hak_host *host, hak_lock *lock);

  /*
   * [any] For class backends. Announces that [base, base + bytes) holds objects of class `cls` at base + i * class_bytes[cls],
   * before the first of them is handed out. base and bytes are multiples of HAK_GRANULE, bytes less than 4 GiB. `tag` is what
   * span_tags says of the objects. HAK_NO_MEMORY leaves nothing registered. Unregister before the pages go back to their source,
   * when none of the objects is out.
   */
  int32_t (*span_register)(const struct hak_host *host, void *base, size_t bytes, uint32_t cls, void *tag);
  void (*span_unregister)(const struct hak_host *host, void *base);

  /*
   * [any] For reclaim plugins. Returns ranges that the plugin holds to their backends, which give the pages back through
   * `purger`. A chain in the order of addresses lets neighbours go as one span. Returns the bytes of the ranges. Takes no lock
   * that a callback of the plugin could wait for; the plugin holds none of its own.
   */
  size_t (*release)(const struct hak_host *host, hak_range *chain, const hak_purger *purger);

  /*
   * [any] For class backends, optional to use. Stores the tags of the spans of `count` objects of class `cls`. An object that is none
   * of that class and plugin, or does not start there, is the program's mistake, and ends it with a message.
   */
  void (*span_tags)(const struct hak_host *host, uint32_t cls, void *const *objects, uint32_t count, void **tags);

  /* [any] For class backends. Ends the process with a message: the program freed what was free already, or never an object. */
  void (*misuse)(const struct hak_host *host, const void *object);

  /* [load] For page backends: the first block will be there. The core makes ready what it will write down of it. */
  void (*expect)(const struct hak_host *host, const void *base);

  /*
   * [any] For policies. The first strategy that does with every size of a bin what `arm` does: between the two there is nothing
   * to choose.
   */
  uint32_t (*arm_alike)(const struct hak_host *host, uint32_t bin, uint32_t arm);

  const uint64_t *spans; /* bytes in the registered spans of all class backends; read it atomically; since 0.4 */
  const uint64_t *tried; /* those of `active` that are in blocks with HAK_TRIED; read it atomically; since 0.5 */
} hak_host;

/* [any] Adds to a counter of the plugin. Statistics, `hakmem stat` included, read it without calling the plugin. */
static inline void hak_count(const hak_host *host, uint32_t counter, uint64_t amount)
{
  __atomic_fetch_add(&host->counters[counter], amount, __ATOMIC_RELAXED);
}

/* [any] Sets a counter that is a gauge. Subtract from a gauge with hak_count(host, i, -amount). */
static inline void hak_gauge(const hak_host *host, uint32_t counter, uint64_t value)
{
  __atomic_store_n(&host->counters[counter], value, __ATOMIC_RELAXED);
}

static inline void hak_lock_acquire(const hak_host *host, hak_lock *lock)
{
  uint32_t expected = 0;
  if (!__atomic_compare_exchange_n(&lock->word, &expected, 1U, false, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED)) {
    host->lock_wait(host, lock);
  }
}

static inline void hak_lock_release(const hak_host *host, hak_lock *lock)
{
  if (__atomic_exchange_n(&lock->word, 0U, __ATOMIC_RELEASE) == 2U) {
    host->lock_wake(host, lock);
  }
}

/* ---- options and counters -------------------------------------------------------------------------------------------- */

enum hak_option_type {
  HAK_SIZE = 1, /* bytes: 4096, 64K, 2M, 1G */
  HAK_BOOL,     /* on | off, true | false, yes | no, 1 | 0 */
  HAK_INT,      /* decimal, may be negative */
  HAK_FLOAT,    /* decimal with a point */
  HAK_ENUM,     /* one of `choices` */
  HAK_STRING,   /* any text */
  HAK_LIST,     /* words separated by commas */
  HAK_PAGES,    /* name of a page backend, loaded before this plugin starts */
  HAK_ARM       /* name of a [strategy.NAME]; policies only */
};

enum hak_option_flag {
  HAK_LIVE = 1,    /* may change in a running process; the plugin then offers `set` */
  HAK_ABSOLUTE = 2 /* HAK_STRING: empty, or a path that begins with '/'; since 0.6 */
};

/* The value of one option, converted and range-checked by the core. Strings and lists live as long as the process. */
typedef union hak_value {
  uint64_t size;           /* HAK_SIZE */
  bool flag;               /* HAK_BOOL */
  int64_t integer;         /* HAK_INT */
  double number;           /* HAK_FLOAT */
  uint32_t choice;         /* HAK_ENUM: index into choices */
  const char *string;      /* HAK_STRING; "" when empty */
  const char *const *list; /* HAK_LIST; ended by NULL */
  const hak_pages *pages;  /* HAK_PAGES */
  uint32_t arm;            /* HAK_ARM: index, below host->arm_count */
} hak_value;

/* One line of a plugin's option table. The INI, `hakmem plugins` and the statistics all read this table. */
typedef struct hak_option {
  const char *key;            /* lower case, digits, '_' */
  uint32_t type;              /* enum hak_option_type */
  uint32_t flags;             /* enum hak_option_flag */
  const char *fallback;       /* the default, written as in the INI */
  const char *min, *max;      /* HAK_SIZE, HAK_INT, HAK_FLOAT: inclusive bounds, written as in the INI; NULL: none */
  const char *const *choices; /* HAK_ENUM: ended by NULL */
  const char *help;           /* one line */
} hak_option;

enum hak_counter_kind {
  HAK_COUNTER = 1, /* only rises */
  HAK_GAUGE = 2    /* a level */
};

/* What a gauge contributes to the totals that every allocator reports. */
enum hak_counter_sum {
  HAK_SUM_NONE = 0,
  HAK_SUM_MAPPED = 1,   /* bytes of address space that may hold pages */
  HAK_SUM_RETAINED = 2, /* bytes that no live block holds but the operating system has not got back */
  HAK_SUM_METADATA = 3  /* bytes of bookkeeping, beyond host->meta_alloc */
};

/* One line of a plugin's counter table. */
typedef struct hak_counter {
  const char *key;  /* lower case, digits, '_' */
  uint32_t kind;    /* enum hak_counter_kind */
  uint32_t sum;     /* enum hak_counter_sum */
  const char *unit; /* "bytes", "calls", "ns", "" */
  const char *help; /* one line */
} hak_counter;

/* ---- backends -------------------------------------------------------------------------------------------------------- */

enum hak_granularity {
  HAK_BYTE = 1, /* any size, 16-byte aligned: wraps a malloc. The core adds the header. Needs alloc, free. */
  HAK_PAGE = 2, /* blocks of whole granules at granule-aligned addresses. Needs alloc, free. */
  HAK_CLASS = 3 /* runs of equal objects for the core's magazines. Needs refill, flush. */
};

/*
 * The operations of a backend. `self` is what start returned. `slot` points to one word that belongs to this plugin and
 * the calling thread; it is NULL at first. A member may be NULL unless its granularity needs it.
 */
typedef struct hak_backend_ops {
  uint32_t struct_size;
  uint32_t granularity; /* enum hak_granularity */

  /*
   * [any] Byte: at least `size` bytes at a multiple of 16; `align` is 16. Page: at least `size` bytes (>= HAK_GRANULE) at a
   * multiple of `align`, a power of two >= HAK_GRANULE; the capacity is a multiple of the page size. HAK_NO_BLOCK on failure,
   * with nothing changed.
   */
  hak_block (*alloc)(void *self, void **slot, size_t size, size_t align);

  /*
   * [any] Optional, of byte backends. The same, with HAK_ZEROED promised: for those that can do better than the core's memset after
   * alloc. HAK_NO_BLOCK is taken as a refusal, and alloc is tried. Page backends say HAK_ZEROED of what alloc returns.
   */
  hak_block (*alloc_zeroed)(void *self, void **slot, size_t size, size_t align);

  /* [any] Takes back a whole block. `capacity` is that of its hand-out. Cannot fail. */
  void (*free)(void *self, void **slot, void *base, size_t capacity);

  /*
   * [any] Optional. Changes a block's capacity to at least `size`, keeping the first min(old, new) bytes; may move it, to the
   * same alignment that `alloc` gives for 16 or HAK_GRANULE. For a page block HAK_ZEROED says that all bytes beyond the old
   * capacity are zero. On failure the block is as it was. Refusal is normal: the core then allocates, copies and frees.
   */
  hak_block (*resize)(void *self, void **slot, void *base, size_t capacity, size_t size);

  /*
   * [any] Class: stores between 1 and `want` objects of class `cls`, from registered spans, in `objects`, and returns how many; or
   * HAK_NO_MEMORY. `want` is at most a run. An object's contents are undefined.
   */
  int32_t (*refill)(void *self, void **slot, uint32_t cls, void **objects, uint32_t want);

  /*
   * [any] Class: takes back `count` objects, at most a run, which may have been handed out to any thread. Whoever holds an
   * object owns all its bytes. Cannot fail.
   */
  void (*flush)(void *self, void **slot, uint32_t cls, void *const *objects, uint32_t count);

  /* [any] Optional. The calling thread ends; what the slot refers to is given up. The slot is set to NULL afterwards. */
  void (*thread_exit)(void *self, void **slot);

  /* [slow] Optional. malloc_trim: gives back what can be given back; returns the bytes. */
  size_t (*trim)(void *self);

  /*
   * [fork] Optional, all three or none. prepare takes the plugin's locks; parent releases them; child sets them to zero and
   * gives up what belonged to threads that are gone.
   */
  void (*fork_prepare)(void *self);
  void (*fork_parent)(void *self);
  void (*fork_child)(void *self);

  /*
   * [any] Page, optional. Takes back a chain of whole blocks and gives their pages back through `purger`, as many at a time as
   * it can; or keeps some for blocks to come, if it has `expire`: the purger serves for those later. The descriptions stay the
   * caller's, who reads `next` again afterwards. Cannot fail. Without it, `free` is called for each.
   */
  void (*free_many)(void *self, void **slot, const hak_range *chain, const hak_purger *purger);

  /*
   * [slow] Optional. Called every now and then after `free_many` or the registration of a span, at slow events of the program's
   * threads: gives back what has been kept for too long. True: ask again.
   */
  bool (*expire)(void *self);

  /*
   * Class, optional. 1: `flush` itself finds what begins where no object of the class does, by host->span_tags or otherwise, unless
   * host->hardened is 0; so the core need not look at the objects before.
   */
  uint32_t looks;
  uint32_t reserved; /* 0 */

  /* Class, optional. Objects of the longest run that refill and flush can do: up to HAK_RUN_LONGEST; less than HAK_RUN_MAX counts as that. */
  uint32_t run;
} hak_backend_ops;

/* ---- caches ---------------------------------------------------------------------------------------------------------- */

/* What a request asks for. */
typedef struct hak_need {
  size_t size;       /* bytes; the range must have at least so many */
  size_t align;      /* its base must be a multiple */
  const void *site;  /* return address of the call */
  uint32_t backend;  /* that serves it: only ranges of this one will do */
  uint32_t arm;      /* strategy that serves it */
  uint32_t flags;    /* HAK_TRIED, if the block will have it; since 0.5 */
  uint32_t reserved; /* 0; since 0.5 */
} hak_need;

/*
 * A cache keeps freed ranges, pages and all, for the next request that they suit. It never gives memory back itself: what it
 * lets go it returns to the core, which passes it on. Ranges of HAK_PINNED backends arrive too; their pages cannot be purged,
 * but their backend can still take them back.
 */
typedef struct hak_cache_ops {
  uint32_t struct_size;
  uint32_t reserved; /* 0 */

  /*
   * [any] A range that suits; the caller holds it. NULL when there is none: the program's memory grows then, and ranges that the
   * cache lets go on this account are chained to *victims, which is NULL at first.
   */
  hak_range *(*take)(void *self, const hak_need *need, hak_range **victims);

  /*
   * [any] Offers a range. Returns the chain of ranges that the cache does not keep: victims that had to make room, or the offered
   * one itself; NULL when everything has its place.
   */
  hak_range *(*put)(void *self, hak_range *range);

  /* [slow] Optional. Called every now and then, at slow events of the program's threads: returns the ranges that are too old. */
  hak_range *(*expire)(void *self);

  /* [slow] malloc_trim, and the end of the cache after an error: returns all ranges. */
  hak_range *(*drain)(void *self);

  /* [fork] As in hak_backend_ops. */
  void (*fork_prepare)(void *self);
  void (*fork_parent)(void *self);
  void (*fork_child)(void *self);

  /*
   * [any] Optional. A thread that asks for the same again gets the block that it has just freed: the core asks the cache only when
   * something else happens. Before such a range is offered, the cache learns here how often that was: so many hits.
   */
  void (*reused)(void *self, const hak_range *range, uint64_t times);
} hak_cache_ops;

/* ---- reclaim --------------------------------------------------------------------------------------------------------- */

/* A reclaim plugin decides when freed ranges go back to their backends, and how the system gets their pages. */
typedef struct hak_reclaim_ops {
  uint32_t struct_size;
  uint32_t reserved; /* 0 */

  /* [any] Takes a chain of ranges. The plugin holds them until it passes them to host->release, now or later. */
  void (*put)(void *self, hak_range *chain);

  /* [slow] Optional. As in hak_cache_ops: releases what has waited too long. */
  void (*expire)(void *self);

  /* [slow] malloc_trim: releases everything. Returns the bytes. */
  size_t (*drain)(void *self);

  /* [fork] As in hak_backend_ops. The ranges that wait are the child's as well: its pages are its own. */
  void (*fork_prepare)(void *self);
  void (*fork_parent)(void *self);
  void (*fork_child)(void *self);
} hak_reclaim_ops;

/* ---- policies -------------------------------------------------------------------------------------------------------- */

/*
 * A policy chooses among strategies ("arms") for rows. A row is a size bin and a kind of call site: row = bin * HAK_SITES + site.
 * Large blocks only, above HAK_CLASS_MAX; smaller ones follow the champion of their bin, which the policy sets and never learns
 * anything about.
 *
 * For each row two arms are in force, a champion and a challenger. Each block draws one of them at random, so that both meet the
 * same work at the same time. Some blocks are measured from their allocation to their free; each of those is a trial.
 */

/* What a call site has been doing. The core finds out; a site is new until it has allocated a few large blocks. */
enum hak_site {
  HAK_SITE_NEW = 0,
  HAK_SITE_RARE,   /* few blocks an epoch */
  HAK_SITE_BUSY,   /* many, each freed before the next few are allocated */
  HAK_SITE_STREAM, /* many, and many of them live at once */
  HAK_SITES
};
#define HAK_ROWS (HAK_BINS * HAK_SITES)

/* One measured block, from malloc to free. Times are of the thread that spent them. */
typedef struct hak_trial {
  uint16_t row;
  uint8_t arm;
  uint8_t hit;       /* 1: the block came from the cache */
  uint32_t reserved; /* 0 */
  uint64_t bytes;    /* requested */
  uint64_t cpu_ns;   /* inside malloc and free, without the release of pages */
  uint64_t fault_ns; /* first touches between malloc and free: faults counted, times what such a fault costs on this machine */
  uint64_t used_bytes; /* resident when it was freed */
  uint64_t held_bytes; /* still resident after the free */
  uint64_t life_ns;    /* from the end of malloc to the beginning of free; since 0.2 */
} hak_trial;

/* All large blocks of one arm in one row, measured or not, since the last decision. */
typedef struct hak_cell {
  uint16_t row;
  uint8_t arm;
  uint8_t reserved8;
  uint32_t reserved;
  uint64_t blocks;     /* allocated */
  uint64_t bytes;      /* requested for them */
  uint64_t hits;       /* of them, served from the cache */
  uint64_t frees;      /* of blocks that were counted in this cell while the policy wanted trials; see hak_choice.trials */
  uint64_t release_ns; /* spent to give pages back of blocks that this arm had allocated */
} hak_cell;

typedef struct hak_sample {
  uint32_t struct_size;
  uint32_t trial_stride; /* sizeof(hak_trial) of the core */
  uint32_t cell_stride;  /* sizeof(hak_cell) of the core */
  uint32_t trial_count, cell_count;
  uint32_t arm_count;
  uint64_t epoch;          /* 0 before the first block, then 1, 2, ... */
  uint64_t blocks;         /* large blocks since the start of the process */
  uint64_t now;            /* monotonic clock */
  uint64_t faults;         /* minor page faults of the process since its start; 0 in the first sample */
  const hak_trial *trials; /* in the order of their frees; use hak_sample_trial */
  const hak_cell *cells;   /* those that are not empty; use hak_sample_cell */
  uint64_t cpu_ns;         /* processor time of the process since its start; 0 in the first sample; since 0.2 */
} hak_sample;

static inline const hak_trial *hak_sample_trial(const hak_sample *sample, uint32_t i)
{
  return (const hak_trial *)(const void *)((const char *)sample->trials + (size_t)i * sample->trial_stride);
}

static inline const hak_cell *hak_sample_cell(const hak_sample *sample, uint32_t i)
{
  return (const hak_cell *)(const void *)((const char *)sample->cells + (size_t)i * sample->cell_stride);
}

/* How an arm stands, for the report. Scores and ratings in thousandths: what costs exactly as much as the baseline scores 1000. */
typedef struct hak_standing {
  uint64_t games, wins, losses, draws; /* decided comparisons with another arm */
  uint64_t trials;                     /* measured blocks */
  uint32_t score;                      /* mean; lower is better; 0 while there is none */
  uint32_t spread;                     /* standard deviation */
  uint32_t rating;                     /* ELO, or 0 */
  uint32_t state;                      /* enum hak_arm_state */
} hak_standing;

enum hak_arm_state { HAK_ARM_IDLE = 0, HAK_ARM_ACTIVE = 1, HAK_ARM_OUT = 2 };

/* The tables to publish. Prefilled with what is in force, but no shares. */
typedef struct hak_choice {
  uint32_t struct_size;
  uint32_t row_count;  /* HAK_ROWS of the core */
  uint8_t *champion;   /* [row_count] arm, below arm_count */
  uint8_t *challenger; /* [row_count] arm, below arm_count */
  uint16_t *share; /* [row_count] of 65536 blocks, so many draw the challenger; 0: none. Only as many as can be measured do. */
  uint8_t *reason; /* [row_count] enum hak_reason, read where the champion is a new one */
  hak_standing *standing; /* [arm_count] kept from call to call; zero at first */
  uint32_t trials;        /* ask again after so many trials, if that is before the epoch's end; 0: measure nothing */
  uint32_t seed;          /* of the draws; another one begins them anew */
  uint32_t tries;         /* ask again also after so many trials of challengers; 0: those make no difference */
  uint16_t *purse;        /* [row_count] the row whose `most` this one draws on; at first each row itself */
  uint16_t *most;         /* [row_count] blocks of the challenger until the next decision, at most; at first UINT16_MAX */
  uint32_t ease;          /* measure so many times less often than time allows, and save the rest; at first 1; since 0.4 */
} hak_choice;

/* Why a row got another champion, for the log of decisions. */
enum hak_reason {
  HAK_REASON_SET = 0, /* an option, the start, or a saved state */
  HAK_REASON_BETTER,  /* the challenger proved better */
  HAK_REASON_REVERT,  /* back to the baseline: the champion proved worse than it */
  HAK_REASON_FAULTS   /* back to the baseline: too many page faults */
};

typedef struct hak_policy_ops {
  uint32_t struct_size;
  uint32_t reserved; /* 0 */
  /*
   * [epoch] Chooses the arms of every row. First called with epoch 0, before any block, then after every epoch, and once more
   * with an empty sample when `set` changed an option. An error, or an arm that does not exist, retires the policy: the first
   * strategy is in force from then on, and one line says why.
   */
  int32_t (*choose)(void *self, const hak_sample *sample, hak_choice *choice);

  /* [exit] Optional: the last chance to save what was learned. */
  void (*finish)(void *self);

  /* [fork] Optional, in the child: it goes on with what was learned, but files are the parent's. */
  void (*fork_child)(void *self);
} hak_policy_ops;

/* ---- the descriptor -------------------------------------------------------------------------------------------------- */

enum hak_plugin_kind { HAK_BACKEND = 1, HAK_POLICY = 2, HAK_CACHE = 3, HAK_RECLAIM = 4 };

typedef struct hak_plugin {
  uint32_t struct_size;
  uint16_t abi_major, abi_minor; /* HAK_ABI_MAJOR, HAK_ABI_MINOR of the header it was compiled with */
  uint32_t kind;                 /* enum hak_plugin_kind */
  uint32_t reserved;             /* 0 */
  const char *name;              /* the file is NAME.so; '_' in a file name stands for '-' or '_' */
  const char *version;           /* of the plugin */
  const char *summary;           /* one line */
  const hak_option *options;
  uint32_t option_count, option_stride; /* stride: sizeof(hak_option) */
  const hak_counter *counters;
  uint32_t counter_count, counter_stride; /* stride: sizeof(hak_counter) */

  /*
   * [load] Starts the plugin. `values` has one value for each option, in order. Stores what the callbacks get as `self`.
   * On an error nothing remains in use, a line has been logged that says why, and the plugin is not used.
   */
  int32_t (*start)(const hak_host *host, const hak_value *values, void **self);

  /* [slow] Needed when an option is HAK_LIVE: takes a new value. On an error the old one stays in force. */
  int32_t (*set)(void *self, uint32_t option, hak_value value);

  const void *ops; /* hak_backend_ops, hak_policy_ops, hak_cache_ops or hak_reclaim_ops, by kind */
} hak_plugin;

/* The name of the exported symbol. */
#define HAK_PLUGIN_SYMBOL "hakmem_plugin"
extern HAK_PLUGIN_EXPORT const hak_plugin hakmem_plugin;

#ifdef __cplusplus
}
#endif

#endif
