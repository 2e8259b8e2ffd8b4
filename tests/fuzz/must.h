/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What has to be true whatever the input is. */
#ifndef KWS_FUZZ_MUST_H
#define KWS_FUZZ_MUST_H

#include "common/err.h"

#include <locale.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Ends the process, which is how a fuzzer is told; `what` is what should have been. */
#define must(condition, what)                                                          \
	do {                                                                           \
		if (!(condition)) {                                                    \
			fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, what); \
			abort();                                                       \
		}                                                                      \
	} while (0)

/* What every function that failed with `r` owes: see common/err.h. */
static inline void must_be_error(long r, const struct err *err)
{
	must(r < 0 && err->code == -r, "the error's code is what was returned");
	must(err->msg[0] && memchr(err->msg, '\0', sizeof(err->msg)), "an error has a message");
	must(!strchr(err->msg, '\n'), "a message is one line");
	must(setlocale(LC_CTYPE, "C.UTF-8") && mbstowcs(NULL, err->msg, 0) != (size_t)-1,
	     "a message is UTF-8");
}

#endif
