# HAKMEM_STATIC_INIH
# ------------------
# Finds libinih.a and proves that it can be linked into a shared object. Sets INIH_CFLAGS and INIH_ARCHIVE. It is linked statically
# and hidden, because a program that is run under libhakmem may export its own ini_parse.
AC_DEFUN([HAKMEM_STATIC_INIH], [
  PKG_CHECK_MODULES([INIH], [inih], [], [AC_MSG_ERROR([inih not found. On Debian: apt-get install libinih-dev])])
  AC_CACHE_CHECK([for a position-independent static inih], [hakmem_cv_inih_archive], [
    hakmem_cv_inih_archive=no
    hakmem_libdir=`$PKG_CONFIG --variable=libdir inih`
    for hakmem_a in "$hakmem_libdir/libinih.a" `$CC -print-file-name=libinih.a`; do
      if test -f "$hakmem_a" && test "$hakmem_cv_inih_archive" = no; then
        hakmem_save_LIBS=$LIBS
        hakmem_save_CFLAGS=$CFLAGS
        hakmem_save_LDFLAGS=$LDFLAGS
        LIBS="-Wl,$hakmem_a $LIBS"
        CFLAGS="$CFLAGS $INIH_CFLAGS -fPIC"
        LDFLAGS="-shared -Wl,-z,text"
        AC_LINK_IFELSE([AC_LANG_SOURCE([[
          #include <ini.h>
          int hakmem_probe(const char *text);
          int hakmem_probe(const char *text) { return ini_parse_string(text, 0, 0); }
        ]])], [hakmem_cv_inih_archive=$hakmem_a])
        LIBS=$hakmem_save_LIBS
        CFLAGS=$hakmem_save_CFLAGS
        LDFLAGS=$hakmem_save_LDFLAGS
      fi
    done
  ])
  AS_IF([test "$hakmem_cv_inih_archive" = no],
    [AC_MSG_ERROR([no libinih.a that can be linked into a shared library. On Debian: apt-get install libinih-dev])])
  AC_SUBST([INIH_ARCHIVE], [$hakmem_cv_inih_archive])
])
