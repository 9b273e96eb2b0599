# hakmem.m4 - for authors of hakmem plugins.                                              -*- Autoconf -*-
# SPDX-License-Identifier: MIT
#
# HAKMEM_PLUGIN([ACTION-IF-FOUND], [ACTION-IF-NOT-FOUND])
# -------------------------------------------------------
# Finds the plugin interface through pkg-config and sets, with AC_SUBST:
#   HAKMEM_CFLAGS         compiler flags for hakmem/plugin.h
#   HAKMEM_PLUGIN_LDFLAGS libtool flags for a plugin
#   hakmemplugindir       where plugins are installed: use it as the directory of a libtool module
# A plugin's Makefile.am is then:
#   hakmemplugin_LTLIBRARIES = mine.la
#   mine_la_SOURCES = mine.c
#   mine_la_CFLAGS = $(HAKMEM_CFLAGS)
#   mine_la_LDFLAGS = $(HAKMEM_PLUGIN_LDFLAGS)
AC_DEFUN([HAKMEM_PLUGIN], [
  AC_REQUIRE([PKG_PROG_PKG_CONFIG])
  PKG_CHECK_EXISTS([hakmem], [
    PKG_CHECK_VAR([HAKMEM_PLUGINDIR], [hakmem], [plugindir])
    HAKMEM_CFLAGS="`$PKG_CONFIG --cflags hakmem` -fvisibility=hidden"
    HAKMEM_PLUGIN_LDFLAGS="-module -avoid-version -shared"
    AC_SUBST([HAKMEM_CFLAGS])
    AC_SUBST([HAKMEM_PLUGIN_LDFLAGS])
    AC_SUBST([hakmemplugindir], [$HAKMEM_PLUGINDIR])
    m4_default([$1], [:])
  ], [
    m4_default([$2], [AC_MSG_ERROR([hakmem not found by pkg-config; is PKG_CONFIG_PATH right?])])
  ])
])
