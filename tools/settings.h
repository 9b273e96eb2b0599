/* SPDX-License-Identifier: MIT */
/*
 * settings.h - the text of the configuration that a program would get from this environment. libhakmem reads the same text
 * and judges it; the command looks for what must be known before a program starts, and for what no program will look at.
 */
#ifndef SETTINGS_H
#define SETTINGS_H

struct setting {
  const char *section, *key, *value;
  const char *file; /* or the name of the variable */
  unsigned line;    /* 0: it has no lines */
};

/*
 * Calls `visit` for each setting of the installed hakmem.ini, of $HAKMEM_CONF and of $HAKMEM_SET, in this order: later ones
 * override earlier ones. Its strings last for the call.
 */
void settings_walk(void (*visit)(void *context, const struct setting *setting), void *context);

#endif
