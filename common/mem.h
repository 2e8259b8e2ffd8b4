/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Memory. Small allocations (names, records, messages) do not fail: without
 * memory for those the process ends, and the journal brings the next one back
 * to where it was. Whatever is sized by a file's content (tables of an image)
 * uses malloc and answers ENOMEM. The caller frees everything with free().
 */
#ifndef KWS_COMMON_MEM_H
#define KWS_COMMON_MEM_H

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

void *xcalloc(size_t n, size_t size);
void *xreallocarray(void *p, size_t n, size_t size);
char *xstrdup(const char *s);         /* NULL gives NULL */
char *xasprintf(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

#define xnew(T) ((T *)xcalloc(1, sizeof(T)))

/* True if both are the same text, or both are NULL. */
static inline bool streq(const char *a, const char *b)
{
	return a == b || (a && b && strcmp(a, b) == 0);
}

#endif
