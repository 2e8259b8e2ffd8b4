/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * kwsfs itself, main() and all, in which something can be made to go wrong at
 * each step of each operation. KWS_FAULT_DIR names a folder:
 *
 *   steps    where each step that begins is noted: "delete.bury"
 *   fault    what is to go wrong, once: "delete.bury before fail". The file is
 *            taken away when it does. Before or after the step:
 *              fail   the step fails
 *              kill   the daemon is killed
 *              pause  the step waits, so that something else can be broken
 *   go       a FIFO: a step that waits goes on when somebody opens it
 */
#include "common/cleanup.h"
#include "common/mem.h"
#include "engine/op.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

static const char *folder;

static int open_in_folder(const char *name, int flags)
{
	cleanup_free char *path = xasprintf("%s/%s", folder, name);

	return open(path, flags | O_CLOEXEC, 0600);
}

static void note(const char *kind, const char *step)
{
	cleanup_close int fd = open_in_folder("steps", O_WRONLY | O_CREAT | O_APPEND);

	if (fd < 0 || dprintf(fd, "%s.%s\n", kind, step) < 0)
		abort();
}

/* What is to go wrong here; "" for nothing. */
static void take_fault(const char *kind, const char *step, bool after, char *ret, size_t size)
{
	cleanup_free char *here = xasprintf("%s.%s %s ", kind, step, after ? "after" : "before");
	cleanup_free char *path = xasprintf("%s/fault", folder);
	cleanup_close int fd = open_in_folder("fault", O_RDONLY);
	char wanted[200];
	ssize_t n = fd < 0 ? 0 : read(fd, wanted, sizeof(wanted) - 1);

	*ret = '\0';
	wanted[n < 0 ? 0 : n] = '\0';
	if (strncmp(wanted, here, strlen(here)) != 0)
		return;
	if (unlink(path) < 0) {
		if (errno == ENOENT)
			return; /* the VMs of a group take a step at once: another one had it */
		abort();
	}
	snprintf(ret, size, "%s", wanted + strlen(here));
}

static void wait_here(void)
{
	cleanup_close int fd = open_in_folder("go", O_RDONLY);

	if (fd < 0)
		abort();
}

static int on_step(const char *kind, const char *step, bool after)
{
	char what[20];

	if (!after)
		note(kind, step);
	take_fault(kind, step, after, what, sizeof(what));
	if (streq(what, "kill"))
		raise(SIGKILL);
	if (streq(what, "pause"))
		wait_here();
	return streq(what, "fail") ? -EIO : 0;
}

__attribute__((constructor)) static void listen_to_steps(void)
{
	folder = getenv("KWS_FAULT_DIR");
	if (folder)
		op_fault = on_step;
}
