/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A growing array: `vec_of(char *) names = {0};`, then vec_push(&names, s).
 * Items are names.at[0 .. names.n - 1]; free names.at with vec_free().
 */
#ifndef KWS_COMMON_VEC_H
#define KWS_COMMON_VEC_H

#include "common/mem.h"

#include <stdlib.h>

#define vec_of(T)          \
	struct {           \
		T *at;     \
		size_t n;  \
		size_t cap; \
	}

/* Appends a zeroed item and gives a pointer to it, valid until the next one. */
#define vec_add(v)                                                            \
	({                                                                    \
		if ((v)->n == (v)->cap) {                                     \
			(v)->cap = (v)->cap ? (v)->cap * 2 : 8;               \
			(v)->at = xreallocarray((v)->at, (v)->cap,            \
						sizeof((v)->at[0]));          \
		}                                                             \
		memset(&(v)->at[(v)->n], 0, sizeof((v)->at[0]));              \
		&(v)->at[(v)->n++];                                           \
	})

#define vec_push(v, item) ((void)(*vec_add(v) = (item)))

/* Frees the array itself, not what its items own. */
#define vec_free(v)                             \
	do {                                    \
		free((v)->at);                  \
		(v)->at = NULL;                 \
		(v)->n = (v)->cap = 0;          \
	} while (0)

#endif
