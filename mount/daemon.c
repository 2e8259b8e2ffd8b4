/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The parent stays until the mount answers, so that `kwsfs && ls /kws` works and
 * the exit code means something. It waits on a pipe for one byte; the end of
 * the file without one means that the child has ended. The child's sentence
 * about what is wrong goes to the stderr that both have until then.
 */
#include "mount/daemon.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

static void exit_as_the_child_says(int pipe_end)
{
	ssize_t n;
	char byte;

	do
		n = read(pipe_end, &byte, 1);
	while (n < 0 && errno == EINTR);
	_exit(n == 1 ? 0 : 1);
}

int daemon_begin(struct daemon *d, struct err *err)
{
	int ends[2];
	pid_t pid;

	if (pipe2(ends, O_CLOEXEC) < 0)
		return err_sys(err, errno, "cannot make a pipe");
	fflush(NULL);
	pid = fork();
	if (pid < 0)
		return err_sys(err, errno, "cannot go to the background");
	if (pid > 0) {
		close(ends[1]);
		exit_as_the_child_says(ends[0]);
	}
	close(ends[0]);
	d->pipe = ends[1];
	setsid();
	if (chdir("/") < 0)
		return err_sys(err, errno, "cannot change to /");
	return 0;
}

static void let_go_of_the_terminal(const struct daemon *d)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	if (null < 0)
		return;
	dup2(null, STDIN_FILENO);
	dup2(null, STDOUT_FILENO);
	if (!d->keep_stderr)
		dup2(null, STDERR_FILENO);
	if (null > STDERR_FILENO)
		close(null);
}

void daemon_ready(struct daemon *d)
{
	sd_notifyf(0, "READY=1\nMAINPID=%d\nSTATUS=Mounted", (int)getpid());
	if (d->pipe < 0)
		return;
	let_go_of_the_terminal(d);
	/* A parent that was killed has nobody left to tell. */
	if (write(d->pipe, "", 1) < 0)
		errno = 0;
	close(d->pipe);
	d->pipe = -1;
}

void daemon_stopping(void)
{
	sd_notify(0, "STOPPING=1\nSTATUS=Ending what is being done");
}
