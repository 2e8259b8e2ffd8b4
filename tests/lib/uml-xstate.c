/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * To be preloaded into user-mode-linux, so that it runs where the processor has more state
 * than it knows of, as one with AMX does. It sets its processes' registers with as much of that
 * state as it has room for, and the kernel takes all of it or none (EFAULT). So the rest
 * is put behind it as it is.
 */
#include <dlfcn.h>
#include <elf.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/types.h>
#include <sys/uio.h>

#define MOST 65536 /* bytes of state; twice as much as any processor has so far */

typedef long ptrace_fn(enum __ptrace_request request, ...);

long ptrace(enum __ptrace_request request, ...)
{
	static char state[MOST]; /* the stacks are small, and there is one thread that does this */
	static ptrace_fn *real;
	struct iovec *given, whole = { state, sizeof(state) };
	void *address, *data;
	va_list args;
	pid_t pid;

	va_start(args, request);
	pid = va_arg(args, pid_t);
	address = va_arg(args, void *);
	data = va_arg(args, void *);
	va_end(args);
	if (!real)
		real = (ptrace_fn *)dlsym(RTLD_NEXT, "ptrace");
	if (request != PTRACE_SETREGSET || (size_t)address != NT_X86_XSTATE)
		return real(request, pid, address, data);
	given = data;
	if (real(PTRACE_GETREGSET, pid, address, &whole) < 0)
		return -1;
	if (given->iov_len >= whole.iov_len)
		return real(request, pid, address, data);
	memcpy(state, given->iov_base, given->iov_len);
	return real(request, pid, address, &whole);
}
