/* SPDX-License-Identifier: MIT */
/*
 * root.h - the one structure from which a running hakmem can be read and steered from outside.
 *
 * libhakmem exports it as the data symbol `hakmem_root`. `hakmem stat` copies it with process_vm_readv, follows `threads`,
 * and needs neither a signal nor a thread nor a file in the target, which may even be stopped. `hakmem set` writes a request
 * into the mailbox and closes the gates, so that the next call of any thread looks at it.
 *
 * Readers take numbers that are still moving; `sequence` only guards the shape: a reader starts over when it was odd or has
 * changed. Everything reachable from here is never unmapped.
 */
#ifndef HKI_ROOT_H
#define HKI_ROOT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "hakmem/plugin.h"

#define HKI_ROOT_MAGIC UINT64_C(0x746f6f72206b6168) /* "hak root" in memory */
#define HKI_ROOT_VERSION 7U                         /* raised with every change of this file */

enum {
  HKI_NAME = 32,     /* longest name of a backend, arm or key, with its NUL */
  HKI_BACKENDS = 16, /* backend instances, boot included */
  HKI_ARMS = 32,     /* strategies */
  HKI_ROWS = 128,    /* counters of all plugins */
  HKI_CLASSES = 97,  /* size classes */
  HKI_PAIRED = 49,   /* from this class on, above 4 KiB, the first two places of a magazine are in the record */
  HKI_MAIL = 512,    /* longest request or answer, with its NUL */
  HKI_BOOT = 0,      /* index of the boot backend */
  HKI_CELLS = 512,   /* pairs of arm and row in use */
  HKI_CHANGES = 64,  /* decisions of the policy that the log remembers */
  HKI_PLACES = 1024, /* most places of a magazine */
  HKI_INSIDE = 2     /* see hki_thread.live */
};

/* What one thread did with one backend. Written by its thread alone, read by anyone, relaxed. */
struct hki_tally {
  uint64_t allocs;      /* blocks handed out */
  uint64_t frees;       /* blocks taken back */
  uint64_t resizes;     /* blocks resized by the backend, in place or moved */
  uint64_t alloc_bytes; /* requested, of blocks handed out; the growth of resizes included */
  uint64_t free_bytes;  /* requested, of blocks taken back; the shrinking of resizes included */
};

/* What a thread keeps for one backend. */
struct hki_seat {
  struct hki_tally tally;
  void *slot; /* the word that belongs to the backend */
};

/*
 * A per-thread stack of free objects of one size class, as an array of their addresses: malloc and free touch no object. It is
 * filled and emptied by runs, half of it at a time. How many were freed needs no counter: what came in either left again or is here.
 */
struct hki_magazine {
  void **top;      /* behind the object that is handed out next */
  void **base;     /* the first place; NULL before the first use */
  void **end;      /* behind the last place that may be used; `base` while the thread has not used it */
  uint64_t allocs; /* objects handed out from here */
};

/* The rest of a magazine: what only the way to the backend and back needs. */
struct hki_supply {
  uint64_t refilled; /* objects got from the backend */
  uint64_t flushed;  /* objects given to the backend */
  uint32_t run;      /* objects that come or go at a time; 0: the thread has not used it */
  uint32_t room;     /* places in the array */
  uint32_t kept;     /* objects in quarantine */
  uint8_t used;      /* 1: went to the backend since the thread last looked for magazines to shorten */
  uint8_t drawn;     /* refills since it last gave objects back, the first few */
  uint16_t others;   /* objects that came before the thread used it */
};

/*
 * One thread. Records are never unmapped; one whose thread has ended waits for the next thread, its tallies stay. `front_end` and
 * `direct_end` are gates: another thread, or `hakmem set`, may store 0 into them at any moment, which sends the owner through its
 * slow path once.
 *
 * What malloc and free touch in a magazine's case comes first, in one page: each further one costs a program that sweeps many pages
 * a miss of its first-level TLB.
 */
struct hki_span;
struct hki_quarantine;
struct hki_starts;
struct hki_thread {
  uint64_t front_end;  /* requests below this size are looked up in the magazines; 0: gate closed */
  uint64_t direct_end; /* requests below this size go straight to `direct`; 0: gate closed */
  struct hki_backend *direct;
  struct hki_seat *direct_seat; /* the one of `direct` */
  const char *inside;           /* plugin whose callback runs, or why this record must not be used; NULL: neither */
  struct hki_span *last;        /* the large block freed last, on its way to the cache; NULL: none; taken by exchange */
  uint64_t window;              /* of the page map, in which frees are looked up first; HKI_NO_WINDOW: none */
  uintptr_t entries;            /* where its leaf would have the entry of address 0 */
  struct hki_magazine magazine[HKI_CLASSES];
  void *pair[HKI_CLASSES - HKI_PAIRED][2]; /* the first places of some magazines */
  struct hki_quarantine *quarantine;       /* of hardening = full; NULL: none yet */
  struct hki_starts *spare_starts;         /* a start bitmap for the next resize that moves; NULL: none yet */
  uint64_t front_bytes;                    /* that the magazines have places for, see front.c */
  uint64_t release_ns;                     /* spent by the thread to give pages back, while the policy learns */
  struct hki_thread *next;                 /* all records, newest first */
  struct hki_thread *next_idle;            /* records without a thread */
  uint32_t front_hand;                     /* class at which the next magazine to shorten is looked for */
  uint32_t live;                           /* 1 while a thread owns it; HKI_INSIDE: stands for the callbacks of a plugin */
  struct hki_supply supply[HKI_CLASSES] __attribute__((aligned(64)));
  struct hki_seat seat[HKI_BACKENDS];
};

enum {
  HKI_RECORD_OFFSET = 64, /* of a record behind the beginning of a page: see fresh_record() in thread.c */
  HKI_RECORD_PAGE = 4096
};
#define HKI_NO_WINDOW UINT64_MAX

_Static_assert(HKI_RECORD_OFFSET + offsetof(struct hki_thread, quarantine) <= HKI_RECORD_PAGE, "the hot part is in one page");

/* A backend instance as the report shows it. */
struct hki_backend_view {
  char name[HKI_NAME];
  uint32_t granularity; /* enum hak_granularity */
  uint32_t callbacks;   /* mallocs that arrived inside its callbacks */
};

/* A plugin counter as the report shows it; its value is hki_root.values[same index]. */
struct hki_row_view {
  char plugin[HKI_NAME]; /* section name: backend.mmap */
  char key[HKI_NAME];
  char unit[12];
  uint16_t kind; /* enum hak_counter_kind */
  uint16_t sum;  /* enum hak_counter_sum */
};

/* Rows, one after the other, that changed from one champion to another. */
struct hki_change {
  uint64_t epoch, blocks; /* when */
  uint16_t row, rows;     /* the first, and how many */
  uint8_t from, to;       /* arms */
  uint8_t reason;         /* enum hak_reason */
};

enum hki_mail_state { HKI_MAIL_IDLE = 0, HKI_MAIL_SERVING = 1, HKI_MAIL_REQUEST = 2, HKI_MAIL_ANSWER = 3 };

/*
 * One request from outside. Senders exclude each other by a lock on /proc/PID. The sender moves IDLE -> REQUEST, the process
 * REQUEST -> SERVING -> ANSWER, the sender ANSWER -> IDLE.
 */
struct hki_mailbox {
  uint32_t state;         /* enum hki_mail_state */
  int32_t result;         /* errno of the answer, 0 when in force */
  char request[HKI_MAIL]; /* key=value */
  char answer[HKI_MAIL];  /* one line */
};

enum hki_state { HKI_STATE_BOOT = 0, HKI_STATE_LOADING = 1, HKI_STATE_READY = 2, HKI_STATE_EXITING = 3 };

struct hki_root {
  uint64_t magic;
  uint32_t version;
  uint32_t size;        /* sizeof(struct hki_root) */
  uint32_t thread_size; /* sizeof(struct hki_thread) */
  uint32_t sequence;    /* odd while names or counts below change */
  uint32_t state;       /* enum hki_state */
  uint32_t mistakes;    /* configuration mistakes reported */
  struct hki_thread *threads;
  uint32_t backend_count, arm_count, row_count;
  uint32_t small; /* backend index of [core] small, 0: none */
  char version_text[HKI_NAME];
  char policy[HKI_NAME];  /* policy in force; empty: none, the first strategy serves */
  char cache[HKI_NAME];   /* cache in force; empty: none */
  char reclaim[HKI_NAME]; /* reclaim plugin in force; empty: none */
  uint32_t class_bytes[HKI_CLASSES];
  uint64_t class_span_bytes[HKI_CLASSES]; /* in spans of the class backend; atomic */
  uint64_t metadata;                      /* bytes from meta_alloc */
  uint64_t foreign_frees;                 /* handed to libc */
  uint64_t epochs;                        /* decisions of the policy */
  uint64_t switches;                      /* rows that changed their champion */
  uint64_t blocks;                        /* large blocks allocated */
  uint32_t trials_wanted;                 /* after which the policy is asked early; 0: it does not learn; atomic */
  uint64_t trials;                        /* measured blocks that were freed */
  uint64_t trials_lost;                   /* of them, those the policy never saw */
  struct hki_tally boot;                  /* what threads without a record did with boot */
  struct hki_backend_view backend[HKI_BACKENDS];
  char arm[HKI_ARMS][HKI_NAME];
  uint8_t champion[HAK_ROWS]; /* arms in force for each row */
  uint8_t challenger[HAK_ROWS];
  uint16_t share[HAK_ROWS];        /* of 65536 blocks, so many draw the challenger */
  uint32_t seed;                   /* of the draws */
  uint32_t cell_count;             /* in use; the first is for pairs that found no place */
  struct hak_cell cell[HKI_CELLS]; /* cumulative, atomic */
  struct hak_standing standing[HKI_ARMS];
  uint64_t change_count;
  struct hki_change change[HKI_CHANGES]; /* a ring: number n is at n % HKI_CHANGES */
  struct hki_row_view row[HKI_ROWS];
  uint64_t values[HKI_ROWS];
  uint64_t active_bytes;      /* capacity of live page blocks */
  uint64_t tried_bytes;       /* of them, of those that challengers got */
  uint64_t span_bytes;        /* of registered spans of class backends */
  uint64_t held_bytes;        /* capacity of freed page blocks in cache and reclaim */
  struct hki_mailbox mailbox; /* last: what is before it is copied as statistics */
};

extern struct hki_root hakmem_root;

#endif
