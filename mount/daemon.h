/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Going to the background, and saying when the mount answers. */
#ifndef KWS_MOUNT_DAEMON_H
#define KWS_MOUNT_DAEMON_H

#include "common/err.h"

#include <stdbool.h>

struct daemon {
	int pipe;         /* to the parent; -1 in the foreground */
	bool keep_stderr; /* for the log */
};

#define DAEMON_INIT { .pipe = -1 }

/* Forks. The child returns; the parent waits until the child says that it is
 * ready, or has ended, and exits with 0 or 1. Before there are threads. */
int daemon_begin(struct daemon *d, struct err *err);

/* The mount answers: tells the parent, and systemd; lets go of the terminal.
 * From any thread. */
void daemon_ready(struct daemon *d);

/* Tells systemd that the end has begun. */
void daemon_stopping(void);

#endif
