/* SPDX-License-Identifier: MIT */
/*
 * operators.cpp - the 20 forms of operator new and delete, in a program with libstdc++.
 *
 * Every form hands out a block of hakmem's that is aligned and can be written to, and takes it back; what cannot be served is
 * std::bad_alloc, or a null pointer where the form does not throw, after the new handler has been asked.
 */
#include <malloc.h>
#include <sys/resource.h>

#include <new>

#include "probe.h"

using size = std::size_t;

/* Beyond what the compiler knows to be too much. */
static volatile size too_much = PTRDIFF_MAX - 65536;

struct pair {
  const char *name;
  size align;
  void *(*get)(size);
  void (*put)(void *, size);
};

static const std::align_val_t wide{256};

static const pair pairs[] = {
    {"new, delete", 16, [](size n) { return operator new(n); }, [](void *p, size) { operator delete(p); }},
    {"new[], delete[]", 16, [](size n) { return operator new[](n); }, [](void *p, size) { operator delete[](p); }},
    {"new, sized delete", 16, [](size n) { return operator new(n); }, [](void *p, size n) { operator delete(p, n); }},
    {"new[], sized delete[]", 16, [](size n) { return operator new[](n); }, [](void *p, size n) { operator delete[](p, n); }},
    {"nothrow new, delete", 16, [](size n) { return operator new(n, std::nothrow); },
     [](void *p, size) { operator delete(p, std::nothrow); }},
    {"nothrow new[], delete[]", 16, [](size n) { return operator new[](n, std::nothrow); },
     [](void *p, size) { operator delete[](p, std::nothrow); }},
    {"aligned new, delete", 256, [](size n) { return operator new(n, wide); }, [](void *p, size) { operator delete(p, wide); }},
    {"aligned new[], delete[]", 256, [](size n) { return operator new[](n, wide); },
     [](void *p, size) { operator delete[](p, wide); }},
    {"aligned new, sized delete", 256, [](size n) { return operator new(n, wide); },
     [](void *p, size n) { operator delete(p, n, wide); }},
    {"aligned new[], sized delete[]", 256, [](size n) { return operator new[](n, wide); },
     [](void *p, size n) { operator delete[](p, n, wide); }},
    {"aligned nothrow new, delete", 256, [](size n) { return operator new(n, wide, std::nothrow); },
     [](void *p, size) { operator delete(p, wide, std::nothrow); }},
    {"aligned nothrow new[], delete[]", 256, [](size n) { return operator new[](n, wide, std::nothrow); },
     [](void *p, size) { operator delete[](p, wide, std::nothrow); }},
};

/* What one form hands out, of some sizes; how many blocks were not as they should be. */
static unsigned exercise(const pair &form)
{
  static const size sizes[] = {0, 1, 24, 1000, 40000, 300000, 5000000};
  unsigned odd = 0;
  for (size n : sizes) {
    auto *block = static_cast<unsigned char *>(form.get(n));
    odd += block == nullptr || reinterpret_cast<uintptr_t>(block) % form.align != 0 || malloc_usable_size(block) < n;
    memset(block, 0x5a, n);
    form.put(block, n);
  }
  form.put(nullptr, 0);
  return odd;
}

/* ---- what cannot be served ------------------------------------------------------------------------------------------- */

static int asked; /* times that the new handler has been called */

static void give_up_at_third()
{
  if (++asked == 3) {
    std::set_new_handler(nullptr);
  }
}

static void throw_at_once()
{
  asked++;
  throw std::bad_alloc();
}

static struct rlimit all, little;

static void make_room()
{
  asked++;
  setrlimit(RLIMIT_AS, &all);
}

static bool throws(const pair &form)
{
  try {
    form.put(form.get(too_much), too_much);
  } catch (const std::bad_alloc &) {
    return true;
  }
  return false;
}

static void refuse(const pair &form)
{
  char name[100];
  bool quiet = strstr(form.name, "nothrow") != nullptr;
  asked = 0;
  std::set_new_handler(give_up_at_third);
  bool threw = throws(form);
  snprintf(name, sizeof name, "%s: too much is %s", form.name, quiet ? "a null pointer" : "std::bad_alloc");
  PROBE(threw == !quiet, name, "found %s", threw ? "an exception" : "none");
  snprintf(name, sizeof name, "%s: the new handler is asked until there is none", form.name);
  probe_equal(name, static_cast<uint64_t>(asked), 3);
}

int main()
{
  probe_served();
  struct hak_totals before = probe_totals();
  for (const pair &form : pairs) {
    char name[100];
    snprintf(name, sizeof name, "%s: aligned, writable, large enough", form.name);
    probe_equal(name, exercise(form), 0);
  }
  struct hak_totals after = probe_totals();
  probe_equal("served by hakmem", after.allocs - before.allocs, 7 * sizeof pairs / sizeof *pairs);
  probe_equal("as many are freed", after.frees - before.frees, after.allocs - before.allocs);
  for (const pair &form : pairs) {
    refuse(form);
  }
  std::set_new_handler(throw_at_once);
  asked = 0;
  PROBE(throws(pairs[0]) && asked == 1, "what a handler throws arrives", "found %d calls", asked);
  getrlimit(RLIMIT_AS, &all);
  little = {1 << 20, all.rlim_max};
  setrlimit(RLIMIT_AS, &little);
  std::set_new_handler(make_room);
  asked = 0;
  too_much = size{1} << 30; /* not any more, when there is room */
  PROBE(!throws(pairs[0]) && asked == 1, "a handler that finds memory is all it takes", "found %d calls", asked);
  return probe_failures != 0;
}
