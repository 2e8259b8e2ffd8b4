/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * kwsfs, and before and after each step of an operation it runs a program,
 * KWS_AT_STEP, with the operation, the step, and `before` or `after`. The step
 * waits until that has ended.
 */
#include "engine/op.h"

#include <errno.h>
#include <spawn.h>
#include <sys/wait.h>

static int run_program(const char *kind, const char *step, bool after)
{
	const char *words[] = { getenv("KWS_AT_STEP"), kind, step, after ? "after" : "before", NULL };
	int status = 0;
	pid_t pid;

	if (posix_spawn(&pid, words[0], NULL, NULL, (char *const *)words, environ) != 0)
		abort();
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			abort();
	if (status != 0)
		abort();
	return 0;
}

static void __attribute__((constructor)) set_fault(void)
{
	if (getenv("KWS_AT_STEP"))
		op_fault = run_program;
}
