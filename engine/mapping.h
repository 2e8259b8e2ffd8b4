/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A file in memory. What is pointed to may go away under us, if somebody cuts the
 * file off: so it is only for the kernel to copy from, which then reports EFAULT;
 * nothing here ever looks at it. Thread-safe.
 */
#ifndef KWS_ENGINE_MAPPING_H
#define KWS_ENGINE_MAPPING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct mapping;

/* Maps nothing yet. `fd` must stay open. */
struct mapping *mapping_new(int fd);
void mapping_free(struct mapping *m); /* NULL is allowed */

/* Where [at, at + length) of the file is; NULL if it was not there when the file was
 * mapped, or the file cannot be mapped. */
const void *mapping_at(struct mapping *m, uint64_t at, size_t length);

/* Whether a copy from there, shorter than MAPPING_SHORT, finds all of it in memory and in the
 * tables of this process. Parts that are asked for again and again are put into these, if the
 * page cache has them; else it says no, for what is not in the cache is read by pread with less
 * of what lies around it. */
#define MAPPING_SHORT 16384
bool mapping_is_ready(struct mapping *m, uint64_t at, size_t length);

#endif
