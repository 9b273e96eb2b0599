/* SPDX-License-Identifier: MIT */
/* coverage.h - included first in a build with --enable-coverage: what a process counted is written also where it ends at once.
   The linker puts these functions in place of abort and _exit. */
#pragma once

void __gcov_dump(void);
_Noreturn void __real_abort(void);
_Noreturn void __real__exit(int status);

__attribute__((weak, visibility("hidden"))) _Noreturn void __wrap_abort(void)
{
  __gcov_dump();
  __real_abort();
}

__attribute__((weak, visibility("hidden"))) _Noreturn void __wrap__exit(int status)
{
  __gcov_dump();
  __real__exit(status);
}
