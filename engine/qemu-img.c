/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "engine/qemu-img.h"

#include "common/cleanup.h"
#include "common/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

/* What a program says on stderr, as one line. */
static void read_complaint(int fd, char *buf, size_t size)
{
	size_t used = 0;
	ssize_t n;
	char rest[512];

	while (used < size - 1 && (n = read(fd, buf + used, size - 1 - used)) != 0)
		if (n > 0)
			used += n;
		else if (errno != EINTR)
			break;
	while ((n = read(fd, rest, sizeof(rest))) > 0)
		; /* let it end even if it says more than we keep */
	while (used > 0 && buf[used - 1] == '\n')
		used--;
	buf[used] = '\0';
	for (char *p = buf; (p = strchr(p, '\n')); )
		*p = ' ';
}

static int spawn_qemu_img(const char *const argv[], int null_fd, int stderr_fd, pid_t *ret)
{
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attr;
	sigset_t none;
	int rc;

	/* The daemon's threads block signals; the program must not inherit that. */
	sigemptyset(&none);
	posix_spawnattr_init(&attr);
	posix_spawnattr_setsigmask(&attr, &none);
	posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK);
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_adddup2(&actions, null_fd, STDIN_FILENO);
	posix_spawn_file_actions_adddup2(&actions, null_fd, STDOUT_FILENO);
	posix_spawn_file_actions_adddup2(&actions, stderr_fd, STDERR_FILENO);
	rc = posix_spawnp(ret, argv[0], &actions, &attr, (char *const *)argv, environ);
	posix_spawn_file_actions_destroy(&actions);
	posix_spawnattr_destroy(&attr);
	return -rc;
}

static int complaint_to_errno(const char *complaint)
{
	if (strstr(complaint, strerror(ENOSPC)))
		return ENOSPC;
	if (strstr(complaint, "\" lock"))
		return EBUSY;
	return EIO;
}

static int run(const char *const argv[], struct err *err)
{
	cleanup_close int null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	char complaint[700];
	int pipe_fd[2], status, r;
	pid_t pid;

	if (null_fd < 0 || pipe2(pipe_fd, O_CLOEXEC) < 0)
		return err_sys(err, errno, "cannot start qemu-img");
	r = spawn_qemu_img(argv, null_fd, pipe_fd[1], &pid);
	close(pipe_fd[1]);
	if (r < 0) {
		close(pipe_fd[0]);
		return err_sys(err, -r, "cannot start qemu-img (is qemu-utils installed?)");
	}
	read_complaint(pipe_fd[0], complaint, sizeof(complaint));
	close(pipe_fd[0]);
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return err_sys(err, errno, "lost track of qemu-img");
	if (WIFSIGNALED(status))
		return err_set(err, EIO, "qemu-img %s was ended by signal %d", argv[1],
			       WTERMSIG(status));
	if (WEXITSTATUS(status) != 0)
		return err_set(err, complaint_to_errno(complaint), "qemu-img %s failed: %s",
			       argv[1], complaint[0] ? complaint : "it does not say why");
	return 0;
}

int qemu_img_overlay(const char *path, const char *backing, const char *backing_format,
		     uint64_t size, const char *options, struct err *err)
{
	cleanup_free char *bytes = xasprintf("%llu", (unsigned long long)size);
	const char *argv[] = { "qemu-img", "create", "-q", "-f", "qcow2", "-u", "-o", options,
			 "-b", backing, "-F", backing_format,
			 path, bytes, NULL };

	return run(argv, err);
}

int qemu_img_try_options(const char *path, const char *options, struct err *err)
{
	const char *argv[] = { "qemu-img", "create", "-q", "-f", "qcow2", "-o", options, path, "1M",
			 NULL };
	int r = run(argv, err);

	unlink(path);
	return r;
}

int qemu_img_commit(const char *path, const char *format, struct err *err)
{
	const char *argv[] = { "qemu-img", "commit", "-q", "-d", "-f", format, path, NULL };

	return run(argv, err);
}

int qemu_img_rebase_unsafe(const char *path, const char *format, const char *backing,
			   const char *backing_format, struct err *err)
{
	const char *argv[] = { "qemu-img", "rebase", "-q", "-u", "-f", format,
			 "-b", backing, "-F", backing_format, path, NULL };

	return run(argv, err);
}
