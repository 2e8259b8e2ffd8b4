/* SPDX-License-Identifier: GPL-2.0-or-later */
/* QEMU's tools as child processes. */
#ifndef KWS_ENGINE_PROGRAM_H
#define KWS_ENGINE_PROGRAM_H

#include "common/err.h"

#include <stdint.h>
#include <sys/types.h>

/* Called many times a second while a program works that may take long, with what it says
 * of its progress (bytes; 0 of 0 as long as it says nothing). A negative errno with a
 * sentence ends the program, cleanly where it can, and the call with that error. */
struct watch {
	int (*look)(void *opaque, uint64_t done, uint64_t total, struct err *err);
	void *opaque;
};

struct program {
	const char *name; /* the arguments', not owned */
	pid_t pid;
	int in;    /* its standard input, -1 for none */
	int out;   /* its standard output, -1 if it goes nowhere */
	int error; /* its standard error */
	char said[700]; /* on standard error, the last of it */
	size_t n_said;
};

enum program_flags {
	PROGRAM_IN = 1 << 0,    /* a pipe for its input, which is /dev/null else */
	PROGRAM_OUT = 1 << 1,   /* ... and its output */
	PROGRAM_BOUND = 1 << 2, /* ends when the daemon does */
	PROGRAM_APART = 1 << 3, /* in / and in a process group of its own */
};

int program_start(struct program *p, const char *const argv[], unsigned flags, struct err *err);
/* The same with an environment of its own. */
int program_start_with(struct program *p, const char *const argv[], char *const environment[],
		       unsigned flags, struct err *err);

/* Waits for what it says on `out`, a hundredth of a second at most: 1 if there is
 * something, 0 if not. -EPIPE when it has said its last. What it complains of is kept. */
int program_listen(struct program *p);

/* Waits for its end, and closes all. 0 if it ended well; else what it complained of:
 * ENOSPC, EBUSY for a lock that somebody holds, EIO. */
int program_end(struct program *p, struct err *err);

/* For one that is PROGRAM_APART: the same, but it has `seconds`. What it left running does not
 * matter. *ret_status as of waitpid. -ETIMEDOUT if it was ended, with its group. */
int program_end_within(struct program *p, unsigned seconds, int *ret_status, struct err *err);

/* After its end: the last line that it said on its standard error, "" if none. */
const char *program_last_line(struct program *p);

/* Tells it to end, and waits until it has. */
void program_kill(struct program *p);

#endif
